"""From names on the command line to objects: a model folder, a library and its encoders, a recipe's guard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear import embedded
from steerclear._imports import collector_paused
from steerclear.cli.inputs import read_names, read_prompts
from steerclear.cli.recipe import EMBEDDED, USUAL_GUIDANCE, Preferred, Recipe
from steerclear.cli.recipe_checks import scheduler_class
from steerclear.cli.terminal import quiet_libraries
from steerclear.errors import InputError, LibraryError, ModelError
from steerclear.fingerprints import content_fingerprint, file_fingerprint, model_fingerprint
from steerclear.library.files import read_file
from steerclear.library.images import read_image

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.encoders import Encoder
    from steerclear.guard import Guard
    from steerclear.library import Library


def model_folder(model: str) -> Path | None:
    """The folder or file of a model; None for a hub id."""
    folder = embedded.MODEL_FOLDER if model == EMBEDDED else Path(model)
    return folder.resolve() if folder.exists() or model == EMBEDDED else None


def fingerprint_of(model: str) -> str:
    """16 hex digits of the weights of a model: a folder, a file, a hub id that was downloaded, or "embedded".

    Raises:
        ModelError: if it is not here.
    """
    return model_fingerprint(model_folder(model) or _downloaded(model))


def usual_guidance(model: str) -> float:
    """The guidance scale to use where the user gives none.

    That is the one in the `recipe.json` of a model folder that `train-emoji` made, at which its library was
    calibrated; for any other model Stable Diffusion's.
    """
    folder = model_folder(model)
    try:
        scale = json.loads((folder / "recipe.json").read_text())["guidance"] if folder else USUAL_GUIDANCE
    except (OSError, ValueError, LookupError, TypeError):  # no such file, or somebody else's
        return USUAL_GUIDANCE
    return float(scale) if isinstance(scale, int | float) else USUAL_GUIDANCE


def open_library(name: str) -> Library:
    """The library in a folder or at an address, or the "embedded" one.

    Raises:
        LibraryError: if it is missing, damaged or no library.
    """
    from steerclear.library import Library

    return Library.open(embedded.LIBRARY_FOLDER if name == EMBEDDED else name)


def open_encoders(
    library: Library,
    model: Path | None = None,
    names: Sequence[str] = (),
    *,
    trust: bool = False,
    allow_download: bool = False,
) -> list[Encoder]:
    """The encoders that a library was built with.

    Args:
        library: the protected pictures.
        model: a model folder that may bring the copy descriptor that the library was built with.
        names: the library's encoders that the user has named as well: what does not ship inside is loaded
            only if it is among them, since a library's own word is not enough.
        trust: also load one of these whose format carries code.
        allow_download: also ask a model hub for one of these.

    Raises:
        LibraryError: if the library was not built with an encoder that the user named, or with other weights.
        EncoderError: if an encoder is missing.
        ConfigError: if the library alone names an encoder that does not ship inside.
    """
    from steerclear import loading
    from steerclear.encoders import encoder_name, load_encoder

    at_hand = dict(loading.own_descriptor(model, library)) if model else {}
    of_library = {spec.name: spec.fingerprint for spec in library.encoders}
    for encoder in map(encoder_name, read_names("encoder", names)):
        if encoder not in of_library:
            raise LibraryError(
                f"the library at {library.uri!r} was built with {', '.join(of_library)}, not with {encoder!r}"
            )
        load = partial(load_encoder, encoder, fingerprint=of_library[encoder])
        at_hand.setdefault(encoder, partial(load, trust=trust, allow_download=allow_download))
    return loading.open_encoders(library, at_hand=at_hand)


def load_guard(recipe: Recipe, *, trust: bool = False, allow_download: bool = False) -> tuple[Guard, Recipe]:
    """The guard that a recipe describes, and the recipe with fingerprints, ladder and budget filled in.

    What is cheap to check comes first: the wishes, the device, the library, then the model.

    Args:
        recipe: what the user asked for; the names in it are trusted, see `read_recipe`.
        trust: also load an encoder whose format carries code.
        allow_download: also ask a model hub for the encoder.

    Raises:
        SteerclearError: for whatever in it cannot be used.
    """
    preferred = [_read(wish) for wish in recipe.prefer]
    alternatives, recipe = _read_alternatives(recipe)
    _check_device(recipe.device)
    folder = model_folder(recipe.model)
    library = open_library(recipe.library)
    library.check_holds_items()
    # the encoder to steer with need not be one of the library's
    named = [spec.name for spec in library.encoders if spec.name == recipe.encoder]
    consent = {"trust": trust, "allow_download": allow_download}
    open_encoders(library, folder, named, **consent)  # before the model, which takes longer to load
    encoder: Any = recipe.encoder or None
    if encoder and any(consent.values()):
        from steerclear.encoders import load_encoder

        expected = {spec.name: spec.fingerprint for spec in library.encoders}.get(encoder)
        encoder = load_encoder(encoder, recipe.device, fingerprint=expected, **consent)
    from steerclear.guard import Guard
    from steerclear.nudge.ladder import Budget

    quiet_libraries()
    budget = Budget() if recipe.budget is None else Budget(recipe.budget)
    guard = Guard.wrap(
        _load(recipe, folder or recipe.model),
        library,
        model=folder or recipe.model,
        filters=recipe.filters,
        preferred=preferred,
        alternatives=alternatives,
        ladder=recipe.ladder or None,
        budget=budget,
        encoder=encoder,
    )
    return guard, replace(
        recipe,
        # the names as they were given: a strategy of the user's may have another name than its module:object
        ladder=recipe.ladder or tuple(rung.name for rung in guard.ladder.rungs),
        budget=budget.overhead,
        model_fingerprint=fingerprint_of(recipe.model),
        library_version=library.version,
        library_fingerprint=library.fingerprint()[:16],
    )


def _load(recipe: Recipe, model: str | Path) -> Any:
    """The pipeline that a recipe describes, with its scheduler and LoRAs, as it is to run."""
    import torch

    from steerclear.generators.accepted import denoiser_of
    from steerclear.pipelines import load_pipeline

    with collector_paused():
        pipe = load_pipeline(
            model,
            None if recipe.offload else recipe.device,
            torch_dtype=getattr(torch, recipe.dtype, recipe.dtype) or None,
            variant=recipe.variant or None,
            **({"config": recipe.config} if recipe.config else {}),
        )
    if recipe.scheduler:
        try:
            pipe.scheduler = scheduler_class(recipe.scheduler).from_config(pipe.scheduler.config)
        except Exception as error:  # whatever a class says to a configuration that it cannot use
            raise InputError(
                f"the model cannot run with {recipe.scheduler}: {str(error).splitlines()[0]}"
            ) from error
    _load_loras(pipe, recipe)
    if recipe.offload == "model":
        pipe.enable_model_cpu_offload(device=recipe.device)
    elif recipe.offload:
        pipe.enable_sequential_cpu_offload(device=recipe.device)
    if recipe.compile and (denoiser := denoiser_of(pipe)) is not None:
        denoiser.compile()
    return pipe


def _load_loras(pipe: Any, recipe: Recipe) -> None:
    """Load a recipe's LoRAs. Raises InputError for what the pipeline cannot load, or that has changed."""
    for number, lora in enumerate(recipe.loras):
        path = Path(lora.file)
        if file_fingerprint(path) != lora.sha256:
            raise InputError(f"the LoRA {lora.file!r} has changed since it was named")
        try:
            pipe.load_lora_weights(
                str(path.resolve().parent), weight_name=path.name, adapter_name=f"lora{number}"
            )
        except Exception as error:  # a pipeline without LoRAs, a missing package or a damaged file
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"the LoRA {lora.file!r} cannot be loaded: {why}") from error
    if recipe.loras:
        names = [f"lora{number}" for number in range(len(recipe.loras))]
        pipe.set_adapters(names, [lora.scale for lora in recipe.loras])


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {device!r} cannot be used here: {str(error).splitlines()[0]}; try cpu"
        ) from error


def _read_alternatives(recipe: Recipe) -> tuple[list[str] | None, Recipe]:
    """The prompts of a recipe's file of alternatives, and the recipe with its fingerprint.

    Raises:
        InputError: for a file that cannot be read, or another one than the recipe means.
    """
    if not recipe.alternatives:
        return None, recipe
    path = Path(recipe.alternatives)
    prompts = read_prompts((), path)
    fingerprint = file_fingerprint(path)
    if recipe.alternatives_fingerprint not in ("", fingerprint):
        raise InputError(
            f"the alternatives {recipe.alternatives!r} have changed since: the file is not the one that the "
            "recipe names"
        )
    return prompts, replace(recipe, alternatives_fingerprint=fingerprint)


def _read(preferred: Preferred) -> str | Image.Image:
    """A preferred text or image as a guard takes it; an image must still be the file that the recipe
    recorded.
    """
    if preferred.image is None:
        return preferred.text or ""
    path = Path(preferred.image)
    if not path.is_file():
        raise InputError(
            f"the preferred image {preferred.image!r} that the recipe names is not there; put it back"
        )
    try:
        content = read_file(path)
    except OSError as error:
        raise InputError(
            f"cannot read the preferred image {preferred.image!r}: {error.strerror or error}"
        ) from error
    if content_fingerprint(content) != preferred.sha256:  # before it is decoded
        raise InputError(
            f"the preferred image {preferred.image!r} has changed since: it is not the one that the recipe "
            "names"
        )
    return read_image(content, name=preferred.image)


def _downloaded(hub_id: str) -> Path:
    """Where the hub's client keeps what was loaded under this id."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except Exception as error:  # whatever the client raises: without the files there is no fingerprint
        raise ModelError(
            f"the files of {hub_id!r} cannot be found again; download it to a folder and give that"
        ) from error


def library_filter_names(encoders: Sequence[Encoder]) -> list[str]:
    """Names of the filters over a library, as its calibration has them."""
    from steerclear.filters.library import LIBRARY_FILTERS

    others = [f"nearest {encoder.name}" for encoder in encoders[1:]]
    return ["nearest", *others, *LIBRARY_FILTERS[1:]]
