"""The result of one run of a pipeline: pictures, latents and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor


class LeaveEarly(Exception):  # noqa: N818 - leaving a run is no error
    """Raised by a callback to end a run: every image in it is already known to be flagged."""


class InterruptedRun(Exception):  # noqa: N818 - the caller wants it so
    """A run that its caller ended: what it made is half-denoised, and nobody waits for it."""


@dataclass(kw_only=True)
class Pass:
    """One run of the pipeline.

    Attributes:
        images: one per row; empty where the run was left early.
        latents: final clean latents (B, …) as the pipeline decodes them; None where the run was left early.
        start: the noise that the run began with, at the scale that `latents=` expects. Where the call takes
            no latents, the first noisy latent itself.
        denoised: the last prediction seen, (B, …).
        steps: scheduler steps taken.
        nfe: denoiser evaluations per image, those of a prior included.
        nfe_prior: evaluations per image of a prior, which runs before the first step.
        magnitudes: the guidance's magnitude (B,) of each traced step, see `steerclear.generators.guidance`.
            The list ends before the first step without guidance.
        resumed: whether the run began at a lower noise level than pure noise.
        finite: of each image, whether its latent and its pixels are finite.
    """

    images: list[Image.Image] = field(default_factory=list)
    latents: Tensor | None = None
    start: Tensor | None = None
    denoised: Tensor | None = None
    steps: int = 0
    nfe: float = 0.0
    nfe_prior: float = 0.0
    magnitudes: list[Tensor] = field(default_factory=list)
    resumed: bool = False
    finite: list[bool] = field(default_factory=list)


def class_name(pipe: Any, label: int) -> str:
    """The name of a class label, as a report writes it in the place of a prompt.

    Args:
        pipe: a pipeline that takes class labels; its `labels`, if it has them, map names to numbers.
        label: the class number.

    Returns:
        The pipeline's own name for the class, else "class 7".
    """
    numbers: dict[str, int] = getattr(pipe, "labels", None) or {}
    return next((name for name, number in numbers.items() if number == label), f"class {label}")


def class_called(pipe: Any, text: str) -> int | None:
    """The class number that a text names: the inverse of `class_name`.

    Args:
        pipe: a pipeline that takes class labels.
        text: one of the pipeline's own names, with or without its commas, or "class 7".

    Returns:
        The class number; None where no class has that name.
    """
    numbers: dict[str, int] = getattr(pipe, "labels", None) or {}
    # the pipeline splits names at commas, so its own names hold none
    for name in (text, text.replace(",", "")):
        if name in numbers:
            return numbers[name]
    number = text.removeprefix("class ")
    return int(number) if number != text and number.isdecimal() else None


def finite_rows(values: Tensor) -> Tensor:
    """Of each row of a tensor (B, …), whether all its numbers are finite: (B,), on its device."""
    return values.isfinite().flatten(1).all(dim=1) if values.ndim > 1 else values.isfinite()


def finite_images(run: Pass, *pixels: Sequence[Tensor]) -> list[bool]:
    """Whether each image of a run has a finite latent and finite pixels.

    Args:
        run: a finished run.
        *pixels: for each place that pixels passed, whether each row was finite there, in parts. Where their
            number is not that of the images, the decoder worked in pieces, and one bad piece counts against
            every image.
    """
    count = len(run.images)
    places = [] if run.latents is None else [[finite_rows(run.latents)]]
    columns = []
    for parts in (*places, *pixels):
        # brought to the CPU only here, at the end: a GPU is waited for once, and not at every piece
        rows = [row for part in parts for row in part.tolist()]
        columns.append(rows if len(rows) == count else [all(rows)] * count)
    return [all(row) for row in zip(*columns, strict=True)]
