"""One run of a pipeline as everything after it sees it: pictures, latents, cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import Tensor


class LeaveEarly(Exception):  # noqa: N818 - leaving is no error
    """Raised inside a pass to abandon it: every image in it is already known to be flagged."""


@dataclass
class Pass:
    """One run of the pipeline.

    images: one per row, empty where the pass was left early; latents: final clean latents (B, …) as the
    pipeline decodes them; start: the noise that it began with, at the scale that `latents=` expects, or, where the call
    takes none, the noisy latent itself; denoised: the last prediction seen; steps: scheduler steps taken; nfe: denoiser
    evaluations per image; nfe_prior: those of them that a prior was asked before the first step; magnitudes: of each step
    until the first without guidance, (B,), the root mean square of the guided minus the unguided prediction, where the
    generator traces guidance; resumed: whether it began at a lower noise level; finite: of each image, whether its latent
    and its pixels are numbers.
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
    """How a report speaks of a request without a prompt: by the pipeline's own name for the class, where it has one."""
    named: dict[str, int] = getattr(pipe, "labels", None) or {}
    return next((name for name, number in named.items() if number == label), f"class {label}")


def class_called(pipe: Any, text: str) -> int | None:
    """The class that is called so, by a name of the pipeline's own or as `class_name` says it; None where there is none."""
    named: dict[str, int] = getattr(pipe, "labels", None) or {}
    for name in (
        text,
        text.replace(",", ""),
    ):  # a name holds no comma: the pipeline takes it for the end of one
        if name in named:
            return named[name]
    number = text.removeprefix("class ")
    return int(number) if number != text and number.isdecimal() else None


def finite_rows(values: Tensor) -> list[bool]:
    return [bool(row.isfinite().all()) for row in values]


def finite(made: Pass, decoded: list[bool]) -> list[bool]:
    """Of each image, whether its latent and pixels are numbers; where the decoder worked in pieces, a bad one spoils all."""
    count = len(made.images)
    latent = [True] * count if made.latents is None else finite_rows(made.latents)
    if len(latent) != count:
        latent = [all(latent)] * count
    pixel = decoded if len(decoded) == count else [all(decoded)] * count
    return [a and b for a, b in zip(latent, pixel, strict=True)]
