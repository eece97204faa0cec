"""Putting a guard together: a model, its protected library, thresholds from the library's calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from steerclear.emoji import ASSETS, MODEL_FOLDER
from steerclear.encoders.embedded import CopyDescriptor
from steerclear.errors import InputError, LibraryError, ModelError
from steerclear.filters import EarlyVerdict, Filter, NearestFilter, PixelFilter, TiledFilter
from steerclear.guard import Guard
from steerclear.library import Library
from steerclear.nudge.ladder import Budget, Ladder, strategies
from steerclear.protected import Protected

LIBRARY_FOLDER = ASSETS / "library"


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
) -> Guard:
    """A guard around a model folder or hub id.

    library: a protected library or its folder, by default the embedded one; ladder: strategy names or a Ladder;
    early: use the library's early verdict, where it was calibrated for this very model.
    Raises ModelError for a folder that is no pipeline, LibraryError for a library that cannot be used.
    """
    pipe = load_pipeline(model, device)
    shelf = library if isinstance(library, Library) else Library.open(library or LIBRARY_FOLDER)
    encoder = CopyDescriptor.default()
    shelf.check_encoder(encoder)
    calibration = shelf.read_note("calibration") or embedded_calibration()
    ids, thumbnails = shelf.thumbnails()
    protected = Protected(pipe, ids, thumbnails, picture_size(pipe))
    chosen = ladder if isinstance(ladder, Ladder) else Ladder(*([strategies(ladder)] if ladder else []))
    if budget is not None:
        chosen = Ladder(chosen.rungs, budget)
    return Guard(
        pipe, library_filters(shelf, encoder, calibration["thresholds"]), protected=protected, preferred=preferred, ladder=chosen,
        early=_early(protected, calibration, model) if early else None,
    )  # fmt: skip


def library_filters(shelf: Library, encoder: CopyDescriptor, thresholds: dict[str, float]) -> list[Filter]:
    """The built-in filters over a library: nearest by the descriptor, pixel, tiled."""
    ids, vectors = shelf.vectors(encoder.name)
    names, thumbnails = shelf.thumbnails()
    return [
        NearestFilter(encoder, tuple(ids), vectors, thresholds["nearest"]),
        PixelFilter(tuple(names), thumbnails, thresholds["pixel"]),
        TiledFilter(tuple(names), thumbnails, thresholds["tiled"]),
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
    if not folder.exists() and str(model).count("/") != 1:
        raise ModelError(f"there is no model folder {model}; give a folder or a hub id such as 'owner/name'")
    try:
        pipe = DiffusionPipeline.from_pretrained(model)
    except Exception as error:  # whatever the loaders of three libraries raise on a damaged folder
        raise ModelError(f"{model} cannot be loaded as a diffusers pipeline: {_first_line(error)}") from error
    if getattr(pipe, "safety_checker", None) is not None:
        pipe.safety_checker = None
    pipe.set_progress_bar_config(disable=True)
    if not device or device == "cpu":
        pipe.to(
            torch.float32
        )  # not by a loading argument, which some versions call dtype and others torch_dtype
    return pipe.to(device) if device else pipe


def picture_size(pipe: Any) -> int:
    """Side in pixels of the pipeline's own picture size."""
    module = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    sample = getattr(getattr(module, "config", None), "sample_size", None)
    if not isinstance(sample, int):
        raise InputError(f"{type(pipe).__name__} does not say its picture size; it cannot be guarded yet")
    return sample * int(getattr(pipe, "vae_scale_factor", 8))


def _early(protected: Protected, calibration: dict[str, Any], model: str | Path) -> EarlyVerdict | None:
    early = calibration.get("early")
    if not early or not protected.ids or Path(model).resolve() != MODEL_FOLDER.resolve():
        return None
    return EarlyVerdict(protected.ids, protected.latents(protected.ids), early["threshold"], early["at"])


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
