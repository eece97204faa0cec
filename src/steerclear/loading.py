"""Putting a guard together: a model, its protected library, thresholds from the library's calibration."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from steerclear._imports import collector_paused
from steerclear.emoji import ASSETS, MODEL_FOLDER
from steerclear.encoders import DEFAULT, Encoder, encoder_name, load_encoder
from steerclear.encoders.embedded import CopyDescriptor, fingerprint
from steerclear.errors import LibraryError, ModelError
from steerclear.filters import EarlyVerdict, Filter, NearestFilter, PixelFilter, TiledFilter
from steerclear.filters.early import Settings
from steerclear.filters.pixel import Everything, Gallery, Nominated
from steerclear.generators.accepted import denoiser_of
from steerclear.guard import Guard
from steerclear.library import Library
from steerclear.library.pictures import IN_MEMORY
from steerclear.nudge.ladder import Budget, Ladder, strategies
from steerclear.protected import Protected

LIBRARY_FOLDER = ASSETS / "library"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/name


def default_guard(**options: Any) -> Guard:
    """The embedded model behind the embedded library."""
    return load_guard(MODEL_FOLDER, **options)


def load_guard(
    model: str | Path,
    *,
    library: str | Path | Library | None = None,
    preferred: Sequence[str | Image.Image] = (),
    ladder: Sequence[str] | Ladder | None = None,
    budget: Budget | None = None,
    device: str | None = None,
    early: bool = True,
    prefer: str = "text",
) -> Guard:
    """A guard around a model folder or hub id.

    library: a protected library or its folder, by default the embedded one; ladder: strategy names or a Ladder;
    early: use the library's early verdict, where it was calibrated for this very model; prefer: see `Guard`.
    Raises ModelError for a folder that is no pipeline, LibraryError for a library that cannot be used.
    """
    with collector_paused():
        return _load_guard(model, library, preferred, ladder, budget, device, early, prefer)


def _load_guard(
    model: str | Path,
    library: str | Path | Library | None,
    preferred: Sequence[str | Image.Image],
    ladder: Sequence[str] | Ladder | None,
    budget: Budget | None,
    device: str | None,
    early: bool,
    prefer: str,
) -> Guard:
    pipe = load_pipeline(model, device)
    shelf = library if isinstance(library, Library) else Library.open(library or LIBRARY_FOLDER)
    encoders = open_encoders(shelf, pipe._execution_device, _own_encoders(pipe, model, shelf))
    calibration = shelf.read_note("calibration")
    own = calibration if calibration and made_on(calibration, model) else None
    # what ships inside is never written to, and its thumbnails are the pictures themselves
    own_pictures = shelf.uri == str(LIBRARY_FOLDER)
    protected = (
        Protected(pipe, shelf.pictures(), shelf.ids("withhold"), describe=shelf.captions_of)
        if own_pictures
        else Protected.of(pipe, shelf)
    )
    chosen = (
        ladder if isinstance(ladder, Ladder) else Ladder() if ladder is None else Ladder(strategies(ladder))
    )
    if budget is not None:
        chosen = Ladder(chosen.rungs, budget)
    return Guard(
        pipe, library_filters(shelf, encoders, device=pipe._execution_device),
        strict=library_filters(shelf, encoders, "strict", pipe._execution_device),
        protected=protected, preferred=preferred, ladder=chosen,
        # a library may be the user's own, and still the model be the one that ships
        alternatives=(own or (embedded_calibration() if is_embedded(model) else {})).get("alternatives", []),
        early=early_verdict(pipe, protected, own) if early and own else None,
        prefer=prefer, encoder=next((e for e in encoders if e.differentiable), None),
    )  # fmt: skip


def made_on(calibration: Mapping[str, Any], model: str | Path) -> bool:
    """Whether a calibration was made on pictures of this very model."""
    weights = Path(model) / "unet" / "diffusion_pytorch_model.safetensors"
    return "model" in calibration and weights.is_file() and fingerprint(weights) == calibration["model"]


def is_embedded(model: str | Path) -> bool:
    """Whether a model folder is the one inside the package."""
    return Path(model).resolve() == MODEL_FOLDER.resolve()


def _own_encoders(pipe: Any, model: str | Path, shelf: Library) -> dict[str, Callable[[], Encoder]]:
    """What the model brings itself, by the name that a library knows it by: its autoencoder, which need not be loaded again, and
    the copy descriptor that `own_descriptor` finds."""
    from steerclear.encoders.pretrained import LatentEncoder

    name = encoder_name(f"vae:{model}")
    return {
        name: lambda: LatentEncoder.of(pipe, name),
        **own_descriptor(model, shelf, pipe._execution_device),
    }


def own_descriptor(
    model: str | Path, shelf: Library, device: torch.device | str = "cpu"
) -> dict[str, Callable[[], Encoder]]:
    """The copy descriptor in a folder that `train-emoji` made, where the library was built with that very one; else nothing."""
    weights = Path(model) / "descriptor" / "model.safetensors"
    if is_embedded(model) or not weights.is_file():
        return {}
    known = [spec.fingerprint for spec in shelf.encoders if spec.name == CopyDescriptor.name]
    if fingerprint(weights) not in known:
        return {}
    return {CopyDescriptor.name: lambda: CopyDescriptor.load(weights.parent, device)}


def open_encoders(
    shelf: Library,
    device: torch.device | str = "cpu",
    at_hand: Mapping[str, Callable[[], Encoder]] | None = None,
) -> list[Encoder]:
    """The encoders that a library was built with, the very same weights, on a device.

    at_hand: by name, what gives one that is loaded already.

    Raises EncoderError where one is missing, LibraryError where it is another version.
    """
    ready = at_hand or {}
    encoders = [
        ready[spec.name]() if spec.name in ready else load_encoder(spec.name, device)
        for spec in shelf.encoders
    ]
    for encoder in encoders:
        shelf.check_encoder(encoder)
    return encoders


def library_filters(
    shelf: Library,
    encoders: Sequence[Encoder],
    which: Literal["thresholds", "strict"] = "thresholds",
    device: torch.device | str = "cpu",
) -> list[Filter]:
    """The built-in filters over a library: nearest by each of its encoders, pixel, tiled.

    which: the thresholds for any picture, or the strict ones for a steered picture; device: where vectors are compared.
    Thresholds come from the library's own calibration, else from the embedded library's, which knows the copy descriptor
    alone. Raises LibraryError for a calibration without a usable threshold.
    """
    calibration = shelf.read_note("calibration")
    if calibration is None:
        # another encoder's scores have another scale
        calibration = embedded_calibration() if shelf.encoders[0].name == DEFAULT else {}
    # a calibration without strict thresholds asks no more of a steered picture than of any other
    thresholds = calibration.get(which) or calibration.get("thresholds") or {}
    return filters_with(shelf, encoders, thresholds, "" if which == "thresholds" else "strict ", device)


def filters_with(
    shelf: Library,
    encoders: Sequence[Encoder],
    thresholds: Mapping[str, Any],
    prefix: str = "",
    device: torch.device | str = "cpu",
) -> list[Filter]:
    """The built-in filters over a library at given thresholds, by name: the first encoder's is `nearest`, others'
    `nearest ENCODER`. Raises LibraryError for one that is missing or no number."""

    def threshold(name: str) -> float:
        value = thresholds.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise LibraryError(
                f"the calibration of {shelf.uri!r} has {value!r} as threshold of {name!r}; run: "
                f"steerclear calibrate --library {shelf.uri} --clean IMAGES_OR_PROMPTS"
            )
        return float(value)

    filters: list[NearestFilter] = []
    for number, encoder in enumerate(encoders):
        name = "nearest" if number == 0 else f"nearest {encoder.name}"
        index = shelf.index(encoder.name, device)
        filters.append(NearestFilter(encoder, index, threshold(name), prefix + name))
    gallery: Gallery
    if len(shelf) > IN_MEMORY:
        gallery = Nominated(encoders[0], filters[0].index, shelf.pictures())
    else:
        ids, thumbnails = shelf.thumbnails()
        gallery = Everything(tuple(ids), thumbnails)
    return [
        *filters,
        PixelFilter(gallery, threshold("pixel"), f"{prefix}pixel"),
        TiledFilter(gallery, threshold("tiled"), f"{prefix}tiled"),
    ]


def embedded_calibration() -> dict[str, Any]:
    """The calibration of the embedded library, which other libraries of the same descriptor start from."""
    note = Library.open(LIBRARY_FOLDER).read_note("calibration")
    if note is None:
        raise LibraryError(
            f"the embedded library in {LIBRARY_FOLDER} holds no calibration; reinstall steerclear"
        )
    return note


def load_pipeline(model: str | Path, device: str | None = None) -> Any:
    """A diffusers pipeline in float32 on the CPU, else as stored, without its safety checker."""
    from diffusers import DiffusionPipeline

    folder = Path(model)
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise ModelError(
            f"{model} is no diffusers pipeline: it has no model_index.json; give the folder that has one"
        )
    if not folder.exists() and not HUB_ID.fullmatch(str(model)):
        raise ModelError(f"there is no model folder {model}; give a folder or a hub id such as 'owner/name'")
    try:
        pipe = DiffusionPipeline.from_pretrained(model, **_absent(folder))
    except Exception as error:  # whatever the loaders of three libraries raise on a damaged folder
        raise ModelError(f"{model} cannot be loaded as a diffusers pipeline: {_first_line(error)}") from error
    if getattr(pipe, "safety_checker", None) is not None:
        pipe.safety_checker = None
    pipe.set_progress_bar_config(disable=True)
    if not device or device == "cpu":
        # not by a loading argument, which some versions call dtype and others torch_dtype; nor by pipe.to, which warns
        for component in pipe.components.values():
            if isinstance(component, torch.nn.Module):
                component.float()
        return pipe
    denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    # the loaders may disagree on the type of what is stored in half precision; the denoiser's decides
    return pipe.to(device, getattr(denoiser, "dtype", torch.float32))


def _absent(folder: Path) -> dict[str, None]:
    """The components that a folder says it lacks and its pipeline wants named all the same, such as Stable Diffusion 3's T5."""
    import diffusers

    path = folder / "model_index.json"
    index = json.loads(path.read_text()) if path.is_file() else {}
    family = getattr(diffusers, str(index.get("_class_name")), None)
    optional = getattr(family, "_optional_components", ())
    return {name: None for name, part in index.items() if part == [None, None] and name not in optional}


def latent_like(pipe: Any) -> Tensor:
    """An empty batch (0, C, H, W) of the latents that the pipeline makes by default."""
    denoiser = denoiser_of(pipe)
    assert denoiser is not None
    config = denoiser.config
    # what a U-Net takes may be more than latents, what a DiT gives back as well
    channels = config.out_channels if hasattr(pipe, "unet") else config.in_channels
    return torch.empty(0, channels, config.sample_size, config.sample_size, device=pipe._execution_device)


def early_verdict(pipe: Any, protected: Protected, calibration: dict[str, Any]) -> EarlyVerdict | None:
    """The calibrated early verdict; the calibration must have been `made_on` this very model."""
    early = calibration.get("early")
    if not early or not protected.pictures:
        return None
    ids = tuple(protected.pictures)
    latents = protected.latents(ids, latent_like(pipe))
    ranges = early["settings"]
    settings = Settings(
        tuple(ranges["schedulers"]), tuple(ranges["steps"]), tuple(ranges["guidance"]), ranges["spacing"]
    )
    return EarlyVerdict(ids, latents, early["threshold"], early["step"], settings)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
