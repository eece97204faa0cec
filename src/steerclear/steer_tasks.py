"""Prepare the task for a flagged image, on which the strategies of the ladder work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.encoders.base import Encoder
from steerclear.errors import UnsupportedError
from steerclear.filters.base import flagged, judge
from steerclear.generators import Pass, PipelineRunner
from steerclear.generators.given import given_embeddings, of_negatives
from steerclear.judges import Judges, matched_items
from steerclear.nudge.base import OrdinaryPrompts, Rewriter, SteerTask
from steerclear.nudge.space import PREVIEW, EncoderSpace, check_judges
from steerclear.pixels import to_image
from steerclear.protected import Protected
from steerclear.request import picture_size
from steerclear.types import Detection, Report

MOST_COMPARED = 2048  # protected latents that a first prediction is compared with


@dataclass(frozen=True, kw_only=True)
class SteerTasks:
    """Makes tasks for flagged images, from the parts of a guard.

    Attributes:
        runner: of the guard's pipeline.
        judges: the call's filters.
        protected: the library's items; None without a library.
        preferred: texts and pictures that pull.
        encoded: latents (D, …) of the preferred pictures by latent shape and picture size, kept from call to
            call.
        alternatives: texts of what the model draws well.
        prefer: the rule for choosing the pull target, see `nudge.prefer`.
        encoder: for strategies that steer in an encoder's space.
        ordinary: what calibration knows of ordinary prompts on this model.
        rewriter: proposes texts for a flagged prompt, or None.
    """

    runner: PipelineRunner
    judges: Judges
    protected: Protected | None
    preferred: tuple[str | Image.Image, ...]
    encoded: dict[Any, Tensor]
    alternatives: tuple[str, ...]
    prefer: str
    encoder: Encoder | None
    ordinary: OrdinaryPrompts | None
    rewriter: Rewriter | None

    @property
    def pipe(self) -> Any:
        """The pipeline."""
        return self.runner.pipe

    def of(
        self,
        i: int,
        first: Pass,
        *,
        report: Report,
        first_prediction: Tensor | None,
        arguments: dict[str, Any],
        kwargs: dict[str, Any],
    ) -> SteerTask:
        """Make the task of image i of a first pass.

        Args:
            i: its row in the pass.
            first: the first pass.
            report: the image's, with its prompt, its seed and its detections.
            first_prediction: (1, …) of the image at the pass's first step; None where no step was taken.
            arguments: those of the plain pipeline's whole call.
            kwargs: the caller's own, those of this image.
        """
        assert report.seed is not None
        start = first.start
        clean = first.latents if first.latents is not None else first.denoised
        assert start is not None
        assert clean is not None
        clean = clean[i : i + 1].to(start)
        size = picture_size(kwargs)
        device = self.pipe._execution_device
        given = given_embeddings(kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in (*given, "latents")}
        if of_negatives(given):
            kwargs.pop("negative_prompt", None)  # a None, beside which some families cannot encode anything
        task = SteerTask(
            runner=self.runner,
            prompt=report.prompt,
            seed=report.seed,
            kwargs=kwargs,
            given={k: v.detach().to(device) if isinstance(v, Tensor) else v for k, v in given.items()},
            start=start[i : i + 1],
            clean=clean,
            unwanted=self._unwanted(report.detections, clean[:0], size, fallback=clean),
            preferred_texts=tuple(p for p in self.preferred if isinstance(p, str)),
            alternatives=self.alternatives,
            captions=self.protected.captions(matched_items(report.detections)) if self.protected else (),
            preferred_latents=self._preferred_latents(clean, size),
            passes=partial(self._passes, size) if self.protected else None,
            spaces=partial(self._space, size),
            prefer=self.prefer,
            protected=partial(self._protected_latents, clean, size) if self.protected else None,
            ordinary=self.ordinary,
            shared_words=self.protected.shared_words if self.protected else frozenset(),
            rewriter=self.rewriter,
            shows=self._shows(first, arguments),
            first_prediction=first_prediction,
        )
        task.kwargs = _telling_the_attempt(kwargs, task)
        return task

    def learn(self, task: SteerTask, detections: tuple[Detection, ...]) -> None:
        """Add what a failed candidate resembled to what the task is pushed away from.

        Args:
            task: of the flagged image.
            detections: of the failed candidate.
        """
        task.unwanted = self._unwanted(detections, task.unwanted, picture_size(task.kwargs))

    def _passes(self, size: tuple[int, int] | None, latent: Tensor) -> bool:
        """Whether the picture of a latent (1, …) passes what a steered one must pass."""
        assert self.protected is not None
        with torch.no_grad():
            pixels = self.protected.pixels(latent, size)
        if not bool(pixels.isfinite().all()):
            return False
        return not flagged(judge(self.judges.of_steered, [to_image(row) for row in pixels])[0])

    def _shows(self, first: Pass, arguments: dict[str, Any]) -> Callable[[int, Tensor], str | None] | None:
        """Make a function that recognises a protected item in a prediction; None where the early verdict does
        not apply.

        The verdict's threshold was calibrated at its own step. At later steps an ordinary picture is less
        similar to any protected one (docs/benchmarks/early.md), so there the threshold is on the safe side.
        """
        early = self.judges.early
        if early is None or first.denoised is None:
            return None
        if not early.applies(self.pipe.scheduler, arguments, first.denoised):
            return None

        def shows(step: int, denoised: Tensor) -> str | None:
            detection = early.check(denoised)[0] if step >= early.step else None
            return detection.matched if detection is not None and detection.flagged else None

        return shows

    def _protected_latents(self, like: Tensor, size: tuple[int, int] | None) -> Tensor:
        """(N, …) latents of the library's items, of at most MOST_COMPARED in even steps."""
        assert self.protected is not None
        ids = list(self.protected.pictures)
        count = min(MOST_COMPARED, len(ids))
        return self.protected.latents([ids[i * len(ids) // count] for i in range(count)], like, size)

    def _space(self, size: tuple[int, int] | None, name: str) -> EncoderSpace:
        """E of the objective. Raises ConfigError where the encoder is the only judge, UnsupportedError where
        there is none.
        """
        if self.encoder is None or self.protected is None:
            raise UnsupportedError(
                f"steering in the space of a {name} needs Guard(…, encoder=…, protected=…)"
            )
        check_judges(self.encoder, self.judges.of_steered)
        look = self.protected.preview if name == PREVIEW else self.protected.pixels
        return EncoderSpace(self.encoder, partial(look, size=size))

    def _preferred_latents(self, like: Tensor, size: tuple[int, int] | None) -> Tensor | None:
        """(D, …) latents of the preferred pictures, encoded once for each shape."""
        pictures = [p for p in self.preferred if not isinstance(p, str)]
        if not pictures or self.protected is None:
            return None
        key = (like.shape[1:], size)
        if key not in self.encoded:
            self.encoded[key] = self.protected.encode(pictures, like, size)
        return self.encoded[key]

    def _unwanted(
        self,
        detections: Sequence[Detection],
        known: Tensor,
        size: tuple[int, int] | None,
        fallback: Tensor | None = None,
    ) -> Tensor:
        """Latents of what flagged detections matched, added to the known ones; without any, the flagged
        latent itself.
        """
        ids = matched_items(detections)
        like = known if fallback is None else fallback
        new = self.protected.latents(ids, like, size) if self.protected and ids else None
        if new is not None and len(new):
            grown: Tensor = torch.unique(torch.cat([known, new.to(known)]), dim=0)
            return grown
        return known if len(known) or fallback is None else fallback


def _telling_the_attempt(kwargs: dict[str, Any], task: SteerTask) -> dict[str, Any]:
    """The arguments, with the caller's callback wrapped so that it also learns which strategy is tried."""
    callback = kwargs.get("callback_on_step_end")
    if callback is None:
        return kwargs

    def called(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> Any:
        return callback(pipe, step, timestep, {**values, "attempt": task.strategy})

    # diffusers asks the objects of its own callback classes which tensors they want
    names = getattr(callback, "tensor_inputs", kwargs.get("callback_on_step_end_tensor_inputs", ["latents"]))
    return {**kwargs, "callback_on_step_end": called, "callback_on_step_end_tensor_inputs": names}
