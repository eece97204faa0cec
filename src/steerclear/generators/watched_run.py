"""One call of a pipeline: callbacks see its steps, and its denoiser evaluations are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.devices import differentiable_kernels
from steerclear.errors import InputError
from steerclear.generators.accepted import denoiser_of, prior_of
from steerclear.generators.decoded import recording_decoded, recording_finite
from steerclear.generators.guidance import GuidancePair, guidance_pair
from steerclear.generators.passes import InterruptedRun, LeaveEarly
from steerclear.generators.start import starting_with
from steerclear.pixels import rgb_copy
from steerclear.steering import Step, steer, unwrapped_call
from steerclear.steering.hook import AfterStep, OnDenoised, frozen, uncompiled


@dataclass
class Evaluations:
    """Denoiser evaluations, counted per row of a batch.

    Attributes:
        total: of the denoiser and of a prior.
        prior: of the prior alone.
    """

    total: int = 0
    prior: int = 0


class WatchedRun:
    """One call of a pipeline, to be made once.

    A DiT pipeline repeats its latents under guidance. Callbacks see them once, and what they return is
    repeated.

    Args:
        pipe: a diffusers pipeline that can be guarded.
        kwargs: the arguments of its call, without `output_type`.
        evaluations: counts on while the pipeline runs.
        on_denoised: called before each scheduler step, see `steerclear.steering.steer`.
        after_step: called after each scheduler step.
        gradients: run with gradients enabled, and with the parameters frozen.
        eager: call the originals of compiled modules, as a run with gradients always does: for a batch of
            another size they would be compiled once more.
        first_sample: the noisy latent (B, …) to begin with, where the call takes no `latents`.
        cancelled: asked at each step; where it says so, the run ends.

    Attributes:
        finite: for each place that pixels passed, whether each row was finite there, in parts (B,) on their
            device.
        decoded_latents: the latents that inpainting gave to its autoencoder, in the autoencoder's scale.
    """

    def __init__(
        self,
        pipe: Any,
        kwargs: dict[str, Any],
        *,
        evaluations: Evaluations,
        on_denoised: OnDenoised,
        after_step: AfterStep | None = None,
        gradients: bool = False,
        eager: bool = False,
        first_sample: Tensor | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.pipe = pipe
        self.finite: dict[str, list[Tensor]] = {}
        self.decoded_latents: list[Tensor] = []
        self._kwargs = kwargs
        self._evaluations = evaluations
        self._on_denoised = on_denoised
        self._after_step = after_step
        self._gradients = gradients
        self._eager = eager or gradients
        self._first_sample = first_sample
        self._cancelled = cancelled
        self._prior = prior_of(pipe)
        self._outputs: list[Any] = []  # of the denoiser, since the last step
        self._reached_a_step = False
        labels = kwargs.get("class_labels")
        self._images = None if labels is None else len(labels)  # known where latents may be repeated
        self._leaf = first_sample  # the unrepeated latent of the coming step

    def call(self) -> list[Image.Image]:
        """The pipeline's pictures; none where a callback raised LeaveEarly.

        Raises:
            InputError: where the pipeline refuses its arguments before its first step.
            InterruptedRun: where the caller ended it, by `cancelled` or by the pipeline's `interrupt`.
        """
        begin = nullcontext() if self._first_sample is None else starting_with(self.pipe, self._first_sample)
        parameters = frozen(self.pipe) if self._gradients else nullcontext()
        kernels = differentiable_kernels() if self._gradients else nullcontext()
        decoding = recording_decoded(self.pipe, self._kwargs, self.decoded_latents)
        watching = recording_finite(self.pipe, self.finite)
        call = unwrapped_call(self.pipe) if self._gradients else self.pipe
        try:
            with (
                uncompiled(self.pipe) if self._eager else nullcontext(),
                self._hooks(),
                steer(self.pipe, self._before, self._after),
                begin,
                parameters,
                kernels,
                decoding,
                watching,
            ):
                pictures = call(**self._kwargs, output_type="pil").images
                if getattr(
                    self.pipe, "_interrupt", False
                ):  # it has skipped steps, and decoded what there was
                    raise InterruptedRun("interrupted")
                # copies, since whatever holds the pictures as well could still change them
                return [rgb_copy(image) for image in pictures]
        except LeaveEarly:
            return []
        except (ValueError, TypeError, AttributeError) as error:
            if self._reached_a_step or isinstance(error, InputError):
                raise
            raise InputError(f"{type(self.pipe).__name__} refuses this call: {error}") from error
        finally:
            self._outputs.clear()

    def guidance_pair(self, step: Step) -> GuidancePair | None:
        """The denoiser's two predictions at the step shown to a callback; None where there were not two."""
        return guidance_pair(self._outputs, step.sample)

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        """Hooks on the denoiser and the prior, until the block ends."""
        denoiser = denoiser_of(self.pipe)
        assert denoiser is not None
        handles = [
            denoiser.register_forward_pre_hook(self._count, with_kwargs=True),
            denoiser.register_forward_hook(self._keep_output, with_kwargs=True),
        ]
        if self._prior is not None:
            handles.append(self._prior.register_forward_pre_hook(self._count, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _count(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hook before the denoiser and the prior."""
        sample = args[0] if args else kwargs["sample" if "sample" in kwargs else "hidden_states"]
        self._evaluations.total += len(sample)
        self._evaluations.prior += len(sample) if module is self._prior else 0

    def _keep_output(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        """Hook after the denoiser."""
        self._outputs.append(output if isinstance(output, Tensor) else output[0])

    def _before(self, step: Step) -> Tensor | None:
        """Callback before a scheduler step: another clean latent, or None to change nothing."""
        self._reached_a_step = True
        if self._cancelled is not None and self._cancelled():
            raise InterruptedRun("cancelled")
        times = 1 if self._images is None else len(step.sample) // self._images
        if times > 1:
            step = self._unrepeated(step)
        try:
            denoised = self._on_denoised(step)
        finally:
            self._outputs.clear()
        return denoised if denoised is None or times == 1 else torch.cat([denoised] * times)

    def _unrepeated(self, step: Step) -> Step:
        """The step with each latent once; where gradients run, the very leaf that it was repeated from."""
        sample = step.sample[: self._images] if self._leaf is None or not self._gradients else self._leaf
        return replace(step, sample=sample, model_output=step.model_output[: self._images])

    def _after(self, step: Step, prev_sample: Tensor) -> Tensor | None:
        """Callback after a scheduler step: another next noisy latent, or None to change nothing."""
        if self._after_step is None:
            return None
        self._leaf = self._after_step(step, prev_sample[: self._images])
        if self._leaf is None or self._images is None:
            return self._leaf
        return torch.cat([self._leaf] * (len(prev_sample) // self._images))
