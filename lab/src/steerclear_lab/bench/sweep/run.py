"""Makes the requests of the sweep: one guard for text, one for image-to-image, over the same networks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from steerclear.embedded import LIBRARY_FOLDER
from steerclear.errors import SteerclearError
from steerclear.guard import Guard
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.sampling import generator
from steerclear_lab.bench.sweep.embeddings import EmbeddingTask, kept, prompt_stands_for, protected_picture
from steerclear_lab.bench.sweep.requests import SweepRequest

HUE = 90  # degrees
CROP = 0.75  # of each side


@dataclass
class Sweep:
    """Asks a guard for one request after the other.

    Attributes:
        embeddings: folder of the optimised embeddings.
        guard: the embedded model's, with its default filters.
    """

    embeddings: Path
    guard: Guard = field(default_factory=Guard.default)

    @cached_property
    def image_guard(self) -> Guard:
        """A guard of the image-to-image pipeline that has the same networks."""
        from diffusers import StableDiffusionImg2ImgPipeline

        pipe = StableDiffusionImg2ImgPipeline(**self.guard.pipe.components, requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        return Guard.wrap(pipe, library=LIBRARY_FOLDER)

    def __call__(self, request: SweepRequest) -> tuple[Row, Image.Image | None]:
        """Make one request.

        Returns:
            Its row, and what was handed out. The outcome is "refused" where the guard or the pipeline does
            not take the request. "picture" is the beginning of a SHA-256 of the picture's pixels.
        """
        guard = self.guard if request.altered is None else self.image_guard
        arguments: dict[str, Any] = {
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance,
            "generator": generator(request.seed),
        }
        if request.negative is not None:
            arguments["negative_prompt"] = request.negative
        if request.size is not None:
            arguments["width"], arguments["height"] = request.size
        if request.altered is not None:
            arguments["image"] = altered_picture(request.file, request.altered)
            arguments["strength"] = request.strength
        row = request.row
        began = time.monotonic()
        try:
            with _scheduler(guard, request.scheduler), self._embedding(request):
                output = guard(request.prompt, **arguments)
        except SteerclearError as error:
            return {**row, "outcome": "refused", "reason": _first_line(error)}, None
        except Exception as error:  # nothing is handed out, and the page says why
            reason = f"{type(error).__name__}: {_first_line(error)}"
            return {**row, "outcome": "refused", "reason": reason}, None
        report, picture = output.reports[0], output.images[0]
        return {
            **row,
            "outcome": str(report.outcome),
            "overhead": round(report.overhead, 4),
            "rungs": [attempt.strategy for attempt in report.attempts],
            "matched": report.matched,
            "reason": report.reason,
            "seconds": round(time.monotonic() - began, 2),
            **({} if picture is None else {"picture": sha256(picture.tobytes()).hexdigest()[:8]}),
        }, picture

    def _embedding(self, request: SweepRequest) -> Any:
        if request.target is None or request.restart is None:
            return nullcontext()
        pipe = self.guard.pipe
        task = EmbeddingTask(request.file, request.target, request.restart)
        return prompt_stands_for(pipe, request.prompt, kept(pipe, task, self.embeddings))


@contextmanager
def _scheduler(guard: Guard, name: str) -> Iterator[None]:
    """A fresh scheduler of a class, with the model's configuration, for one request."""
    import diffusers

    before = guard.pipe.scheduler
    guard.scheduler = getattr(diffusers, name).from_config(before.config)
    try:
        yield
    finally:
        guard.scheduler = before


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0].strip()


def altered_picture(file: str, how: str) -> Image.Image:
    """A protected picture mirrored, cropped or in another hue, in its own size."""
    picture = protected_picture(file)
    if how == "mirrored":
        return ImageOps.mirror(picture)
    if how == "cropped":
        w, h = picture.size
        left, top = round(w * (1 - CROP) / 2), round(h * (1 - CROP) / 2)
        return picture.crop((left, top, w - left, h - top)).resize((w, h), Image.Resampling.BICUBIC)
    hsv = np.asarray(picture.convert("HSV")).copy()
    hsv[..., 0] = (hsv[..., 0].astype(int) + round(HUE / 360 * 256)) % 256
    return Image.fromarray(hsv, "HSV").convert("RGB")
