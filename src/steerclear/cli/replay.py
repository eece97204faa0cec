"""`steerclear replay`: make a picture again from the recipe in its PNG, and compare every pixel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steerclear._version import __version__
from steerclear.cli import recipe as recipes
from steerclear.cli.generate import make
from steerclear.cli.inputs import FLAGGED, OK, check_file, one_line_errors
from steerclear.cli.recipe import Recipe
from steerclear.errors import InputError, ModelError
from steerclear.fingerprints import model_fingerprint
from steerclear.output import read_png, save_png

if TYPE_CHECKING:
    from PIL import Image


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A PNG that `steerclear generate` wrote.")],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="FOLDER_OR_ID", help="Where its model lies now, if it has moved."),
    ] = None,
    library: Annotated[
        str | None,
        typer.Option("--library", "-l", metavar="DIR", help="Where its library lies now, if it has moved."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also write the new picture here.")
    ] = None,
) -> None:
    """Make a picture again and say whether it is the same, bit for bit.

    The same machine gives the same pixels; another processor or another torch may round differently.

    Exit codes: 0 the same; 3 it differs, and how; 2 bad input, a model with other weights among it.

    \b
    steerclear replay picture.png
    steerclear replay picture.png --out again.png
    """
    with one_line_errors("stopped"):
        shown, found = read_png(file)
        if out is not None:
            check_file(out)
        recipe = Recipe.from_dict(found, str(file))
        if not recipe.prompt.strip():
            raise InputError(f"the recipe in {str(file)!r} is damaged: its prompt is empty")
        placed = replace(recipe, model=model or recipe.model, library=library or recipe.library)
        _check_model(placed, file, chosen=model is not None)
        if library is None and not recipes.is_at_hand(recipe.library):
            raise InputError(
                f"{str(file)!r} was made with the library {recipe.library!r}, which is not here; pass --library with its folder"
            )
        guard, now = recipes.load(placed)
        _check_fingerprint(recipe, now.model_fingerprint, now.model, file)
        image, report = make(guard, now)
        differences = _differences(shown, image, recipe, replace(now, outcome=str(report.outcome)))
        if out is not None and image is not None:
            save_png(
                out,
                image,
                replace(now, outcome=str(report.outcome), steerclear_version=__version__).to_dict(),
            )
    if not differences:
        typer.echo(f"{file} is bit-identical to what its recipe makes")
        raise typer.Exit(OK)
    typer.echo(f"{file} differs from what its recipe makes: {'; '.join(differences)}")
    raise typer.Exit(FLAGGED)


def _check_model(recipe: Recipe, file: Path, *, chosen: bool) -> None:
    """Refuse a model that is not the recipe's before it is loaded, and never fetch one because a picture names it."""
    folder = recipes.model_folder(recipe.model)
    if folder is not None:
        if folder.is_dir():
            _check_fingerprint(recipe, model_fingerprint(folder), recipe.model, file)
    elif not chosen:
        raise ModelError(
            f"{str(file)!r} was made by the model {recipe.model!r}, which is no folder here; pass --model with its folder or hub id"
        )


def _check_fingerprint(recipe: Recipe, found: str, model: str, file: Path) -> None:
    if found != recipe.model_fingerprint:
        raise ModelError(
            f"{str(file)!r} was made by a model with fingerprint {recipe.model_fingerprint}, but {model!r} has {found}; "
            "pass --model with the one that made it"
        )


def _differences(shown: Image.Image, made: Image.Image | None, before: Recipe, now: Recipe) -> list[str]:
    """How the picture made again differs, the likely causes last; empty where every pixel is the same."""
    import numpy as np

    out = []
    if made is None:
        out.append(f"it is {now.outcome} now, and was {before.outcome}")
    elif made.size != shown.size:
        out.append(f"it is {made.width} × {made.height} now, and was {shown.width} × {shown.height}")
    else:
        apart = np.abs(np.asarray(made.convert("RGB"), np.int16) - np.asarray(shown, np.int16)).max(axis=-1)
        if not apart.any():
            return []
        out.append(f"{np.count_nonzero(apart)} of {apart.size} pixels, by up to {apart.max()} of 255")
        if now.outcome != before.outcome:
            out.append(f"it is {now.outcome} now, and was {before.outcome}")
    if now.library_fingerprint != before.library_fingerprint:
        out.append("the library has changed since")
    if before.steerclear_version != __version__:
        out.append(f"it was made by steerclear {before.steerclear_version}, this is {__version__}")
    return out
