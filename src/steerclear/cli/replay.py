"""`steerclear replay`: make a picture again from the recipe in its PNG, and compare every pixel."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steerclear._version import __version__
from steerclear.cli.generate import make
from steerclear.cli.inputs import check_file
from steerclear.cli.opening import load_guard, model_folder
from steerclear.cli.options import DownloadOption, TrustOption
from steerclear.cli.recipe import EMBEDDED, Lora, Recipe
from steerclear.cli.recipe_options import read_encoder, read_filters, read_ladder, read_loras
from steerclear.cli.saved_recipe import OPTIONS, read_recipe
from steerclear.cli.terminal import FLAGGED, OK, echo, one_line_errors
from steerclear.errors import InputError, ModelError
from steerclear.fingerprints import model_fingerprint
from steerclear.output import read_png, save_png
from steerclear.plugins import Kind

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.library import Library


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A PNG that `steerclear generate` wrote.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="FOLDER_OR_ID", help="Where the picture's model lies now, if it has moved."
        ),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option(
            "--library",
            "-l",
            metavar="DIR",
            help="Where the picture's library lies, unless it is the embedded one.",
        ),
    ] = None,
    filter_names: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="NAME",
            help="A module:object that the recipe names as a filter: naming it here is your consent to "
            "import it. May be given several times.",
        ),
    ] = None,
    ladder: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="The same for strategies that the recipe names.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="The same for the encoder that the recipe names.")
    ] = None,
    trust: TrustOption = False,
    allow_download: DownloadOption = False,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Where a LoRA that the recipe names lies now; may be given several times."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER_OR_ID", help="Where the configuration of a model in a single file lies now."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also write the new picture here.")
    ] = None,
) -> None:
    """Make a picture again and compare it bit by bit.

    The same machine gives the same pixels; another processor or another version of torch may round
    differently. A recipe is only a text in a file: code of yours that it names is imported only if you name
    it as well.

    Exit codes: 0 the same; 3 it differs, and how; 2 bad input, such as a model with other weights.

    \b
    steerclear replay picture.png
    steerclear replay picture.png --out again.png
    """
    with one_line_errors():
        old_image, document = read_png(file)
        if out is not None:
            check_file(out)
        trusted: dict[Kind, tuple[str, ...]] = {
            "filter": read_filters(filter_names or ()),
            "strategy": read_ladder(ladder),
            "encoder": () if encoder is None else (read_encoder(encoder),),
        }
        old = read_recipe(document, str(file), trusted)
        if not old.prompt.strip():
            raise InputError(f"the recipe in {str(file)!r} is damaged: its prompt is empty")
        _check_named(old, trusted, file)
        relocated = replace(
            old,
            model=model or old.model,
            library=library or old.library,
            config=config or old.config,
            loras=_given_loras(old, read_loras(lora or ()), file),
        )
        _check_model(relocated, file, chosen=model is not None)
        if config is None and old.config and not Path(old.config).is_dir():
            raise ModelError(
                f"{str(file)!r} names the configuration {old.config!r}, which is no folder here; "
                "pass --config with it"
            )
        if library is None and old.library != EMBEDDED:
            raise InputError(
                f"{str(file)!r} was made with the library {old.library!r}, and a name in a picture opens "
                "none; pass --library with the folder or address where it lies"
            )
        guard, new = load_guard(relocated, trust=trust, allow_download=allow_download)
        _check_fingerprint(old, fingerprint=new.model_fingerprint, model=new.model, file=file)
        output = make(guard, new)
        image, report = output.images[new.image], output.reports[new.image]
        new = replace(
            new,
            outcome=str(report.outcome),
            library_version=report.library_version,
            steerclear_version=__version__,
        )
        differences = _differences(old_image, new_image=image, old=old, new=new)
        if differences and guard.library is not None:
            differences += _lost_version(old, guard.library)
        if out is not None and image is not None:
            save_png(out, image, new.to_dict())
    if not differences:
        echo(f"{file} is bit-identical to what its recipe makes")
        raise typer.Exit(OK)
    echo(f"{file} differs from what its recipe makes: {'; '.join(differences)}")
    raise typer.Exit(FLAGGED)


def _check_named(recipe: Recipe, trusted: Mapping[Kind, Collection[str]], file: Path) -> None:
    """Refuse names on the command line that the recipe does not have: they would change nothing."""
    in_recipe = recipe.plugin_names()
    for kind, names in trusted.items():
        for name in names:
            if (kind, name) not in in_recipe:
                raise InputError(
                    f"the recipe in {str(file)!r} does not name the {kind} {name!r}; "
                    f"leave {OPTIONS[kind]} out, or generate anew"
                )


def _given_loras(recipe: Recipe, given: Sequence[Lora], file: Path) -> tuple[Lora, ...]:
    """The recipe's LoRAs, each from a file of the user's: none is loaded because a picture names it."""
    files = {lora.sha256: lora.file for lora in given}
    for lora in recipe.loras:
        if lora.sha256 not in files:
            raise InputError(
                f"{str(file)!r} was made with the LoRA {lora.file!r} of SHA-256 {lora.sha256}…; "
                "pass --lora with that file"
            )
    for lora in given:
        if lora.sha256 not in {known.sha256 for known in recipe.loras}:
            raise InputError(
                f"the recipe in {str(file)!r} does not name the LoRA {lora.file!r}; leave it out"
            )
    return tuple(replace(lora, file=files[lora.sha256]) for lora in recipe.loras)


def _check_model(recipe: Recipe, file: Path, *, chosen: bool) -> None:
    """Refuse a model with other weights before loading it; never fetch one because a picture names it."""
    folder = model_folder(recipe.model)
    if folder is not None:
        _check_fingerprint(recipe, fingerprint=model_fingerprint(folder), model=recipe.model, file=file)
    elif not chosen:
        raise ModelError(
            f"{str(file)!r} was made by the model {recipe.model!r}, which is no folder here; "
            "pass --model with its folder or hub id"
        )


def _check_fingerprint(recipe: Recipe, fingerprint: str, model: str, file: Path) -> None:
    if fingerprint != recipe.model_fingerprint:
        raise ModelError(
            f"{str(file)!r} was made by a model with fingerprint {recipe.model_fingerprint}, but {model!r} "
            f"has {fingerprint}; pass --model with the one that made it"
        )


def _lost_version(old: Recipe, library: Library) -> list[str]:
    """What to say where the version that the picture was compared with is no longer kept."""
    if old.library_version is None or old.library_version >= library.version:
        return []
    if old.library_version in [state.version for state in library.log()]:
        return []
    return [
        f"version {old.library_version} of the library, with which it was compared, is no longer kept: a "
        "compaction or a purge has dropped it, so that the same picture need not come out"
    ]


def _differences(
    old_image: Image.Image, new_image: Image.Image | None, old: Recipe, new: Recipe
) -> list[str]:
    """How the new picture differs, the likely causes last; empty where every pixel is the same."""
    import numpy as np

    differences = []
    if new_image is None:
        differences.append(f"it is {new.outcome} now, and was {old.outcome}")
    elif new_image.size != old_image.size:
        differences.append(
            f"it is {new_image.width} × {new_image.height} now, "
            f"and was {old_image.width} × {old_image.height}"
        )
    else:
        new_pixels = np.asarray(new_image.convert("RGB"), np.int16)
        apart = np.abs(new_pixels - np.asarray(old_image, np.int16)).max(axis=-1)
        if not apart.any():
            return []
        differences.append(f"{np.count_nonzero(apart)} of {apart.size} pixels, by up to {apart.max()} of 255")
        if new.outcome != old.outcome:
            differences.append(f"it is {new.outcome} now, and was {old.outcome}")
    if new.library_fingerprint != old.library_fingerprint:
        differences.append("the library has changed since")
    if old.steerclear_version != __version__:
        differences.append(f"it was made by steerclear {old.steerclear_version}, this is {__version__}")
    return differences
