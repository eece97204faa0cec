"""Step 1 of a request, and every regeneration: run a diffusers pipeline, see its latents, count its cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.accepted import call_parameters, check_pipeline, denoiser_of
from steerclear.generators.conditions import Condition, encode, pooled_embedding
from steerclear.generators.decoded import as_scheduled
from steerclear.generators.given import absent_text_parts
from steerclear.generators.guidance import GuidancePair, magnitude
from steerclear.generators.passes import LeaveEarly, Pass, class_called, finite_images
from steerclear.generators.resume import add_noise, schedule_of, starting_at
from steerclear.generators.start import (
    CALLBACKS,
    begins_from_picture,
    noise_scale,
    regeneration_arguments,
    start_scale,
)
from steerclear.generators.watched_run import Evaluations, WatchedRun
from steerclear.steering import Step
from steerclear.steering.hook import OnDenoised


class PipelineRunner:
    """Runs one pipeline: plainly, from a given condition and noise, or resumed from a noise level.

    Args:
        pipe: a diffusers pipeline.
        traced: number of first steps at which the guidance's magnitude is recorded, see `Pass.magnitudes`.

    Attributes:
        cancelled: asked at each step of every run; where it says so, the run raises InterruptedRun.

    Raises:
        UnsupportedError: for a pipeline that cannot be guarded.
        ConfigError: for a pipeline that is not complete.
    """

    def __init__(self, pipe: Any, traced: int = 0) -> None:
        check_pipeline(pipe)
        self.pipe = pipe
        self.traced = traced
        self.cancelled: Callable[[], bool] | None = None
        self._evaluations = Evaluations()
        self._running: WatchedRun | None = None
        self._dtype: torch.dtype | None = None  # of the noisy latents of the last run
        self._schedule: dict[str, Tensor] = {}  # timesteps and sigmas of the last run from pure noise
        self.remembered: dict[str, float] = {}  # what is measured once of a pipeline and its settings
        self._pooled: tuple[Any, Tensor | None] = (None, None)  # the last texts' key and embeddings

    @property
    def denoiser(self) -> Any:
        """The module whose evaluations are counted."""
        return denoiser_of(self.pipe)

    @property
    def evaluations(self) -> int:
        """Evaluations of the denoiser and a prior, per row of a batch, since this object was made."""
        return self._evaluations.total

    @property
    def prompted(self) -> bool:
        """Whether the pipeline takes text; DiT takes class labels."""
        return "prompt" in call_parameters(self.pipe)

    @property
    def reads_text(self) -> bool:
        """Whether the pipeline takes text, and has what encodes it in memory."""
        return self.prompted and not absent_text_parts(self.pipe)

    def run(
        self,
        on_denoised: OnDenoised | None = None,
        on_pass: Callable[[Pass], None] | None = None,
        *,
        resumed: bool = False,
        gradients: int = 0,
        eager: bool = False,
        first_sample: Tensor | None = None,
        **kwargs: Any,
    ) -> Pass:
        """Call the pipeline with exactly these arguments; nothing is changed unless `on_denoised` changes it.

        A LeaveEarly from a callback ends the run, which then has no images.

        Args:
            on_denoised: sees each step and may return another clean latent, see `steerclear.steering.steer`.
            on_pass: sees the unfinished Pass at each step, before `on_denoised`.
            resumed: see `Pass`.
            gradients: number of first steps in which `step.denoised` can be differentiated by `step.sample`,
                each step on its own. It needs `latents` or `first_sample`.
            eager: call the originals of compiled modules, see `WatchedRun`.
            first_sample: the noisy latent (B, …) to begin with, where the call takes no `latents`.
            **kwargs: the arguments of the pipeline's call.

        Raises:
            InputError: where the pipeline refuses its arguments before its first step.
            InterruptedRun: where the caller ended it.
        """
        result = Pass(resumed=resumed)
        total_before, prior_before = self._evaluations.total, self._evaluations.prior

        def record_step(step: Step) -> Tensor | None:
            if step.index == 0:
                result.start = (step.sample / start_scale(self.pipe, kwargs)).detach()
                self._dtype = result.start.dtype
                if not resumed:
                    self._schedule = schedule_of(self.pipe.scheduler)
            result.steps = step.index + 1
            result.denoised = step.denoised.detach()
            if step.index == len(result.magnitudes) < self.traced:
                pair = self.guidance_pair(step)
                result.magnitudes += [magnitude(pair).detach()] if pair else []
            if on_pass is not None:
                on_pass(result)
            return on_denoised(step) if on_denoised else None

        def record_latents(step: Step, prev_sample: Tensor) -> Tensor | None:
            result.latents = prev_sample.detach()
            if not gradients:
                return None
            return result.latents.clone().requires_grad_(step.index + 1 < gradients)

        if gradients and first_sample is not None:
            first_sample = first_sample.detach().clone().requires_grad_()
        elif gradients:
            kwargs["latents"] = kwargs["latents"].detach().clone().requires_grad_()
        watched = WatchedRun(
            self.pipe,
            kwargs,
            evaluations=self._evaluations,
            on_denoised=record_step,
            after_step=record_latents,
            gradients=gradients > 0,
            eager=eager,
            first_sample=first_sample,
            cancelled=self.cancelled,
        )
        result.images = self._call(watched)
        if not result.images:
            result.latents = None
        elif watched.decoded_latents:
            result.latents = as_scheduled(self.pipe, watched.decoded_latents[-1])
        result.finite = finite_images(result, *watched.finite.values())
        if result.start is not None:
            result.nfe = (self._evaluations.total - total_before) / len(result.start)
            result.nfe_prior = (self._evaluations.prior - prior_before) / len(result.start)
        return result

    def predict(
        self,
        condition: Condition,
        start: Tensor,
        *,
        kwargs: dict[str, Any],
        generator: torch.Generator,
        steps: int = 1,
    ) -> tuple[Tensor, GuidancePair | None]:
        """The prediction after a few steps; the run is left there.

        Where gradients are enabled, the prediction is a function of `start` and of `condition`, through all
        of these steps, and the backward pass to come is counted at once.

        Args:
            condition: text embeddings, as from `encode`.
            start: (1, …) the noise, as in `Pass`.
            kwargs: the caller's own arguments.
            generator: for what the pipeline draws.
            steps: number of steps taken.

        Returns:
            `denoised` (1, …) of the last of these steps, and its predictions with and without the prompt.
        """
        predictions: list[tuple[Tensor, GuidancePair | None]] = []

        def leave_at_last(step: Step) -> Tensor | None:
            if step.index < steps - 1:
                return None
            predictions.append((step.denoised, self.guidance_pair(step)))
            raise LeaveEarly

        before = self.evaluations
        start = self._as_drawn(start)
        # screening is not reported as progress
        kwargs = {k: v for k, v in kwargs.items() if k not in CALLBACKS}
        arguments = regeneration_arguments(self.pipe, condition, start, kwargs=kwargs, generator=generator)
        first_sample = arguments.pop("first_sample")
        watched = WatchedRun(
            self.pipe,
            arguments,
            evaluations=self._evaluations,
            on_denoised=leave_at_last,
            gradients=torch.is_grad_enabled(),
            eager=True,
            first_sample=first_sample,
            cancelled=self.cancelled,
        )
        self._call(watched)
        if torch.is_grad_enabled():
            self.count_backward(self.evaluations - before)
        return predictions[0]

    def count_backward(self, evaluations: float) -> None:
        """Count a backward pass through so many evaluations: two more for each."""
        self._evaluations.total += int(2 * evaluations)

    def guidance_pair(self, step: Step) -> GuidancePair | None:
        """The predictions with and without the prompt at the step shown to a callback, if guided."""
        return None if self._running is None else self._running.guidance_pair(step)

    def _call(self, watched: WatchedRun) -> list[Image.Image]:
        """Make the call, and then forget the run: its callbacks hold latents and their gradients."""
        self._running = watched
        try:
            return watched.call()
        finally:
            self._running = None

    def encode(self, prompt: str, kwargs: dict[str, Any]) -> Condition:
        """The condition of one prompt, as keyword arguments of the pipeline's call.

        Args:
            prompt: a text; for a pipeline without prompts, the name of a class as in `class_name`.
            kwargs: the caller's own arguments.

        Returns:
            The text embeddings; the text itself where the family's encoding is not known; or the class label.

        Raises:
            UnsupportedError: for a text where the pipeline takes none, or has no text encoder in memory.
        """
        if self.prompted and (absent := absent_text_parts(self.pipe)):
            raise UnsupportedError(
                f"the text {prompt!r} cannot be encoded: this {type(self.pipe).__name__} has no "
                f"{', '.join(absent)} in memory; load it, or do with what needs none"
            )
        if not self.prompted and (label := class_called(self.pipe, prompt)) is not None:
            return {"class_labels": [label]}
        return encode(self.pipe, prompt, kwargs)

    def pooled_embeddings(self, texts: tuple[str, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """One vector per text by the pipeline's own text encoder.

        The last result is kept, since a guard asks for its alternatives again and again.

        Args:
            texts: N texts.
            kwargs: the caller's own arguments.

        Returns:
            (N, C); None where the family's embeddings are not known, or there is no text encoder.
        """
        if self.prompted and not self.reads_text:
            return None
        settings = {k: v for k, v in kwargs.items() if isinstance(v, bool | int | float | str)}
        key = (texts, tuple(sorted(settings.items())))
        if self._pooled[0] != key:
            unguided = {**kwargs, "guidance_scale": 1.0}
            rows = [pooled_embedding(self.encode(text, unguided)) for text in texts] if self.prompted else []
            known = [row for row in rows if row is not None]
            self._pooled = key, torch.stack(known) if known and len(known) == len(texts) else None
        return self._pooled[1]

    def fresh_noise(self, like: Tensor, kwargs: dict[str, Any], generator: torch.Generator) -> Tensor | None:
        """Draw new noise to regenerate from.

        Args:
            like: (B, …) noise of the shape, type and device to draw.
            kwargs: the caller's own arguments.
            generator: draws the noise.

        Returns:
            The noise; None in image-to-image, where the pipeline must draw the noise itself.
        """
        if begins_from_picture(self.pipe, kwargs):
            return None
        scale = noise_scale(self.pipe) / start_scale(self.pipe, kwargs)
        return (torch.randn(like.shape, generator=generator) * scale).to(like)

    def regenerate(
        self,
        condition: Condition,
        start: Tensor | None,
        *,
        kwargs: dict[str, Any],
        generator: torch.Generator,
        on_denoised: OnDenoised | None = None,
        resumed: bool = False,
        gradients: int = 0,
        eager: bool = False,
    ) -> Pass:
        """Run the pipeline again, under another condition.

        Args:
            condition: text embeddings, as from `encode`.
            start: (B, …) the noise, as in `Pass`; None to begin with what the pipeline draws from
                `generator`.
            kwargs: the caller's own arguments.
            generator: for what the pipeline draws.
            on_denoised: as in `run`.
            resumed: see `Pass`.
            gradients: as in `run`.
            eager: as in `run`.

        Raises:
            UnsupportedError: where the pipeline cannot begin from a given latent.
        """
        start = None if start is None else self._as_drawn(start)
        arguments = regeneration_arguments(self.pipe, condition, start, kwargs=kwargs, generator=generator)
        return self.run(on_denoised, resumed=resumed, gradients=gradients, eager=eager, **arguments)

    def _as_drawn(self, noise: Tensor) -> Tensor:
        """The noise in the precision in which the pipeline draws its own."""
        return noise if self._dtype is None else noise.to(self._dtype)

    def resume(
        self,
        clean: Tensor,
        strength: float,
        *,
        condition: Condition,
        kwargs: dict[str, Any],
        generator: torch.Generator,
        on_denoised: OnDenoised | None = None,
    ) -> Pass:
        """Noise a clean latent back to a level and denoise it from there (SDEdit, as image-to-image does).

        The schedule is that of the last run from pure noise.

        Args:
            clean: (1, …) the clean latent.
            strength: share of the steps that are done again, in (0, 1].
            condition: text embeddings, as from `encode`.
            kwargs: the caller's own arguments.
            generator: draws the noise, and what else the pipeline draws.
            on_denoised: as in `run`.

        Raises:
            UnsupportedError: under custom timesteps or sigmas, and where the pipeline begins from a picture.
        """
        if kwargs.get("timesteps") is not None or kwargs.get("sigmas") is not None:
            raise UnsupportedError(
                "resuming from a noise level is not possible under custom timesteps or sigmas"
            )
        if begins_from_picture(self.pipe, kwargs):
            raise UnsupportedError(
                f"{type(self.pipe).__name__} begins at a noise level of its own; it cannot be resumed from "
                "another"
            )
        if not self._schedule:
            self.regenerate(
                condition, clean, kwargs=kwargs, generator=generator, on_denoised=_leave, eager=True
            )
        scheduler = self.pipe.scheduler
        noisy, skip = add_noise(
            scheduler, clean, schedule=self._schedule, strength=strength, generator=generator
        )
        with starting_at(scheduler, skip) as restore_timesteps:

            def restore_then_look(step: Step) -> Tensor | None:
                restore_timesteps()
                return on_denoised(step) if on_denoised else None

            # pipelines multiply what they are given by the scale of pure noise
            return self.regenerate(
                condition,
                noisy / start_scale(self.pipe, kwargs),
                kwargs=kwargs,
                generator=generator,
                on_denoised=restore_then_look,
                resumed=True,
            )


def _leave(step: Step) -> Tensor | None:
    """Leave a run at its first step, once its schedule is known."""
    raise LeaveEarly
