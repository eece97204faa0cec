"""Step 1 of a request, and every regeneration: run a diffusers pipeline, see its latents, count its cost."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.conditions import Condition, encode
from steerclear.steering import Step, steer
from steerclear.steering.hook import OnDenoised

# what a regeneration brings itself, so that the caller's own must not be passed a second time; callbacks see the first
# pass only, since what they are shown in a regeneration has not been verified
OURS = frozenset(
    (
        "prompt", "prompt_2", "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3", "prompt_embeds",
        "negative_prompt_embeds", "num_images_per_prompt", "generator",
        "latents", "callback", "callback_steps", "callback_on_step_end", "callback_on_step_end_tensor_inputs",
    )
)  # fmt: skip


class LeaveEarly(Exception):  # noqa: N818 - leaving is no error
    """Raised inside a pass to abandon it: every image in it is already known to be flagged."""


@dataclass
class Pass:
    """One run of the pipeline.

    images: one per row, empty where the pass was left early; latents: final clean latents (B, …) as the
    pipeline decodes them; start: the noise that it began with, at the scale that `latents=` expects; denoised: the last
    prediction seen; steps: scheduler steps taken; nfe: denoiser evaluations per image; magnitudes: of each step until the
    first without guidance, (B,), the root mean square of the guided minus the unguided prediction, where the generator
    traces guidance; resumed: whether it began at a lower noise level.
    """

    images: list[Image.Image] = field(default_factory=list)
    latents: Tensor | None = None
    start: Tensor | None = None
    denoised: Tensor | None = None
    steps: int = 0
    nfe: float = 0.0
    magnitudes: list[Tensor] = field(default_factory=list)
    resumed: bool = False


class PipelineGenerator:
    """Runs one pipeline: plainly, from a given condition and noise, or on from a noise level.

    traced: at how many first steps the magnitude of the guidance is noted.
    """

    def __init__(self, pipe: Any, traced: int = 0) -> None:
        self.pipe = pipe
        self.traced = traced
        self.evaluations = 0  # of the denoiser, per row of its batch, since this object was made

    @property
    def denoiser(self) -> Any:
        """The module whose evaluations are counted."""
        module = getattr(self.pipe, "unet", None) or getattr(self.pipe, "transformer", None)
        if module is None:
            raise UnsupportedError(
                f"{type(self.pipe).__name__} has neither a unet nor a transformer; it cannot be guarded yet"
            )
        return module

    def run(
        self,
        on_denoised: OnDenoised | None = None,
        on_pass: Callable[[Pass], None] | None = None,
        **kwargs: Any,
    ) -> Pass:
        """Call the pipeline with exactly these arguments; nothing is changed unless `on_denoised` changes it.

        on_pass: sees the pass as it stands at each step. A LeaveEarly from a callback ends the pass: it has no images then.
        """
        result = Pass()
        rows = 0
        outputs: list[Tensor] = []  # of the denoiser, since the last step

        def count(module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            nonlocal rows
            sample = args[0] if args else named["sample" if "sample" in named else "hidden_states"]
            rows += len(sample)

        def note(module: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            if result.steps < self.traced:
                outputs.append(output[0])

        def before(step: Step) -> Tensor | None:
            if step.index == 0:
                result.start = step.sample / self._noise_scale()
            result.steps = step.index + 1
            result.denoised = step.denoised
            if step.index == len(result.magnitudes) < self.traced:
                result.magnitudes += _magnitude(outputs, step.sample)
                outputs.clear()
            if on_pass is not None:
                on_pass(result)
            return on_denoised(step) if on_denoised else None

        def after(step: Step, prev_sample: Tensor) -> None:
            result.latents = prev_sample

        denoiser = self.denoiser
        handles = [denoiser.register_forward_pre_hook(count, with_kwargs=True)]
        if self.traced:
            handles.append(denoiser.register_forward_hook(note, with_kwargs=True))
        try:
            with steer(self.pipe, before, after):
                result.images = list(self.pipe(**kwargs, output_type="pil").images)
        except LeaveEarly:
            result.latents = None
        finally:
            for handle in handles:
                handle.remove()
            self.evaluations += rows
            if result.start is not None:
                result.nfe = rows / len(result.start)
        return result

    def encode(self, prompt: str, kwargs: dict[str, Any]) -> Condition:
        """The text embeddings of one prompt, as the keyword arguments that the pipeline takes them in.

        Raises UnsupportedError for a pipeline whose text encoding is not known.
        """
        return encode(self.pipe, prompt, kwargs)

    def regenerate(
        self, condition: Condition, start: Tensor, kwargs: dict[str, Any], generator: torch.Generator,
        on_denoised: OnDenoised | None = None,
    ) -> Pass:  # fmt: skip
        """The whole way again from the noise `start` (1, …) under another condition; kwargs: the caller's own."""
        rest = {k: v for k, v in kwargs.items() if k not in OURS}
        if "negative_prompt" in inspect.signature(type(self.pipe).__call__).parameters:
            rest["negative_prompt"] = None  # some families default to "", which they refuse beside embeddings
        return self.run(
            on_denoised, None, **rest, **condition, latents=self._unpacked(start, kwargs), generator=generator
        )

    def resume(
        self, clean: Tensor, strength: float, condition: Condition, kwargs: dict[str, Any], generator: torch.Generator,
        on_denoised: OnDenoised | None = None,
    ) -> Pass:  # fmt: skip
        """Noise a clean latent (1, …) back to a level and denoise it from there (SDEdit, as image-to-image does).

        strength: share of the steps that are done again, in (0, 1].
        """
        if kwargs.get("timesteps") is not None or kwargs.get("sigmas") is not None:
            raise UnsupportedError(
                "resuming from a noise level is not possible under custom timesteps or sigmas"
            )
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(
            int(kwargs.get("num_inference_steps", 50)), device=self.pipe._execution_device
        )
        timesteps = scheduler.timesteps
        skip = min(len(timesteps) - 1, max(0, round(len(timesteps) * (1 - strength))))
        if type(scheduler).__name__ == "PNDMScheduler" and skip == 1 and len(timesteps) > 2:
            skip = 2  # its first two entries after the start are the same step
        noise = torch.randn(clean.shape, generator=generator, dtype=torch.float32).to(clean)
        noisy = scheduler.add_noise(clean, noise, timesteps[skip : skip + 1])
        # pipelines multiply what they are given by the scale of pure noise
        with self._starting_at(skip):
            made = self.regenerate(condition, noisy / self._noise_scale(), kwargs, generator, on_denoised)
        made.resumed = True
        return made

    def _unpacked(self, start: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """The noise as `latents=` takes it: FLUX.2 alone packs what it is given, the others take what they step on."""
        if not type(self.pipe).__name__.startswith("Flux2"):
            return start
        factor = self.pipe.vae_scale_factor * 2
        height, width = (
            int(kwargs.get(side) or self.pipe.default_sample_size * self.pipe.vae_scale_factor) // factor
            for side in ("height", "width")
        )
        return start.reshape(len(start), height, width, -1).permute(0, 3, 1, 2)

    def _noise_scale(self) -> float:
        return float(getattr(self.pipe.scheduler, "init_noise_sigma", 1.0))

    @contextmanager
    def _starting_at(self, skip: int) -> Iterator[None]:
        """Let the pipeline's next call begin `skip` steps in, while the scheduler still knows its whole schedule."""
        scheduler = self.pipe.scheduler
        own = {k: vars(scheduler).get(k) for k in ("set_timesteps", "scale_model_input")}
        original_set, original_scale = scheduler.set_timesteps, scheduler.scale_model_input
        whole: Tensor | None = None

        def set_timesteps(*args: Any, **kwargs: Any) -> None:
            nonlocal whole
            original_set(*args, **kwargs)
            whole = scheduler.timesteps
            kept = whole[skip:]
            if type(scheduler).__name__ == "PNDMScheduler" and skip > 0:
                kept = torch.cat([kept[:2], kept[1:]])  # its second call repeats the step that it begins with
            scheduler.timesteps = kept
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(skip)

        def scale_model_input(*args: Any, **kwargs: Any) -> Tensor:
            # the pipeline has its own list by now; multistep schedulers compare with the length of the whole
            if whole is not None:
                scheduler.timesteps = whole
            return original_scale(*args, **kwargs)  # type: ignore[no-any-return]

        set_timesteps.__signature__ = inspect.signature(original_set)  # type: ignore[attr-defined]
        vars(scheduler).update(set_timesteps=set_timesteps, scale_model_input=scale_model_input)
        try:
            yield
        finally:
            for name, wrapper in own.items():
                if wrapper is None:
                    del vars(scheduler)[name]
                else:
                    vars(scheduler)[name] = wrapper
            if hasattr(scheduler, "set_begin_index"):
                scheduler._begin_index = None


def _magnitude(outputs: list[Tensor], sample: Tensor) -> list[Tensor]:
    """Of one step, [(B,)]; nothing where the denoiser was not asked twice per image, with and without the condition."""
    if not outputs or sum(map(len, outputs)) != 2 * len(sample):
        return []
    first, second = torch.cat(outputs).float().chunk(2)
    if first.ndim == sample.ndim:
        first, second = (half[:, : sample.shape[1]] for half in (first, second))  # without a learned variance
    return [(first - second).flatten(1).square().mean(1).sqrt()]
