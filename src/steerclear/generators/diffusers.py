"""Step 1 of a request, and every regeneration: run a diffusers pipeline, see its latents, count its cost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.errors import InputError, UnsupportedError
from steerclear.generators.accepted import check_pipeline, denoiser_of, parameters, prior_of
from steerclear.generators.conditions import EMBEDS, Condition, encode, meaning
from steerclear.generators.decoded import as_scheduled, noting_decoded
from steerclear.generators.guidance import Halves, halves, magnitude
from steerclear.generators.passes import LeaveEarly, Pass, class_called, finite, finite_rows
from steerclear.generators.resume import noised, scheduled, starting_at
from steerclear.generators.start import beginning_with, begins_from_picture, repeated, takes_latents
from steerclear.steering import Step, steer, unwrapped_call
from steerclear.steering.codecs import autoencoder_of
from steerclear.steering.hook import AfterStep, OnDenoised, frozen

# what a regeneration brings itself, so that the caller's own must not be passed a second time; callbacks see the first
# pass only, since what they are shown in a regeneration has not been verified
OURS = frozenset(
    (
        "prompt", "prompt_2", "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3", "prompt_embeds",
        "negative_prompt_embeds", "class_labels", "num_images_per_prompt", "generator",
        "latents", "callback", "callback_steps", "callback_on_step_end", "callback_on_step_end_tensor_inputs",
    )
)  # fmt: skip


class PipelineRunner:
    """Runs one pipeline: plainly, from a given condition and noise, or on from a noise level.

    traced: at how many first steps the magnitude of the guidance is noted. Raises UnsupportedError or ConfigError for a
    pipeline that cannot be guarded.
    """

    def __init__(self, pipe: Any, traced: int = 0) -> None:
        check_pipeline(pipe)
        self.pipe = pipe
        self.traced = traced
        self.evaluations = 0  # of the denoiser and a prior, per row of a batch, since this object was made
        self._prior_evaluations = 0
        self._outputs: list[Any] = []  # of the denoiser, since the last step
        self._decoded: list[bool] = []  # of each row that was decoded in the last call, whether it is finite
        self._pasted: list[
            Tensor
        ] = []  # the autoencoder's latents in the last call, where the pipeline pastes into them
        self._schedule: dict[str, Tensor] = {}  # timesteps and sigmas of the last pass from pure noise
        self._meanings: tuple[Any, Tensor | None] = (None, None)  # of the texts last asked for

    @property
    def denoiser(self) -> Any:
        """The module whose evaluations are counted."""
        return denoiser_of(self.pipe)

    @property
    def prompted(self) -> bool:
        """Whether the pipeline takes text; DiT takes class labels."""
        return "prompt" in parameters(self.pipe)

    def run(
        self,
        on_denoised: OnDenoised | None = None,
        on_pass: Callable[[Pass], None] | None = None,
        *,
        resumed: bool = False,
        gradients: int = 0,
        begin: Tensor | None = None,
        **kwargs: Any,
    ) -> Pass:
        """Call the pipeline with exactly these arguments; nothing is changed unless `on_denoised` changes it.

        on_pass: sees the pass as it stands at each step. A LeaveEarly from a callback ends the pass: it has no images then.
        resumed: see `Pass`. gradients: in so many first steps `step.denoised` can be differentiated by `step.sample`, each
        step by itself, for which `latents` or `begin` must be given. begin: the noisy latent to begin with, where the call
        takes no `latents`. Raises InputError where the pipeline refuses its arguments before it has begun.
        """
        result = Pass(resumed=resumed)
        began, prior_began = self.evaluations, self._prior_evaluations

        def before(step: Step) -> Tensor | None:
            if step.index == 0:
                result.start = (step.sample / self._start_scale(kwargs)).detach()
                if not resumed:
                    self._schedule = scheduled(self.pipe.scheduler)
            result.steps = step.index + 1
            result.denoised = step.denoised.detach()
            if step.index == len(result.magnitudes) < self.traced:
                both = self.halves(step)
                result.magnitudes += [magnitude(both).detach()] if both else []
            if on_pass is not None:
                on_pass(result)
            return on_denoised(step) if on_denoised else None

        def after(step: Step, prev_sample: Tensor) -> Tensor | None:
            result.latents = prev_sample.detach()
            if not gradients:
                return None
            return result.latents.clone().requires_grad_(step.index + 1 < gradients)

        if gradients and begin is not None:
            begin = begin.detach().clone().requires_grad_()
        elif gradients:
            kwargs["latents"] = kwargs["latents"].detach().clone().requires_grad_()
        result.images = self._call(before, after, gradients > 0, kwargs, begin)
        if not result.images:
            result.latents = None
        elif self._pasted:
            result.latents = as_scheduled(self.pipe, self._pasted[-1])
        result.finite = finite(result, self._decoded)
        if result.start is not None:
            result.nfe = (self.evaluations - began) / len(result.start)
            result.nfe_prior = (self._prior_evaluations - prior_began) / len(result.start)
        return result

    def predict(
        self, condition: Condition, start: Tensor, kwargs: dict[str, Any], generator: torch.Generator, steps: int = 1
    ) -> tuple[Tensor, Halves | None]:  # fmt: skip
        """`denoised` after some steps from the noise `start` (1, …), and that step's two predictions; the pass is left then.

        Where gradients are enabled, both are functions of `start` and of `condition`, through all of these steps, and the
        backward pass to come is counted at once.
        """
        seen: list[tuple[Tensor, Halves | None]] = []

        def leave(step: Step) -> Tensor | None:
            if step.index < steps - 1:
                return None
            seen.append((step.denoised, self.halves(step)))
            raise LeaveEarly

        began = self.evaluations
        given = self._regenerating(condition, start, kwargs, generator)
        self._call(leave, None, torch.is_grad_enabled(), given, given.pop("begin"))
        if torch.is_grad_enabled():
            self.count_backward(self.evaluations - began)
        return seen[0]

    def count_backward(self, evaluations: float) -> None:
        """A backward pass through so many evaluations costs two more for each."""
        self.evaluations += int(2 * evaluations)

    def halves(self, step: Step) -> Halves | None:
        """The predictions with and without the prompt at the step that a callback is looking at, where there were both."""
        return halves(self._outputs, step.sample)

    def _call(
        self, on_denoised: OnDenoised, after_step: AfterStep | None, gradients: bool, kwargs: dict[str, Any],
        begin: Tensor | None,
    ) -> list[Image.Image]:  # fmt: skip
        """The pipeline's pictures, none where a callback left it. Every evaluation of its denoiser is counted."""
        begun = False
        self._decoded.clear()
        self._pasted.clear()
        labels = kwargs.get("class_labels")
        images = None if labels is None else len(labels)  # DiT carries its latents twice under guidance
        leaf = begin  # DiT's latent of the coming step, once

        def count(module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            sample = args[0] if args else named["sample" if "sample" in named else "hidden_states"]
            self.evaluations += len(sample)
            self._prior_evaluations += len(sample) if module is prior else 0

        def note(module: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            self._outputs.append(output if isinstance(output, Tensor) else output[0])

        def pixels(module: Any, args: Any, output: Any) -> None:
            made = getattr(output, "sample", output)
            self._decoded.extend(finite_rows(made) if isinstance(made, Tensor) else [])

        def before(step: Step) -> Tensor | None:
            nonlocal begun
            begun = True
            times = 1 if images is None else len(step.sample) // images
            if times > 1:
                sample = step.sample[:images] if leaf is None or not gradients else leaf
                step = replace(step, sample=sample, model_output=step.model_output[:images])
            try:
                moved = on_denoised(step)
            finally:
                self._outputs.clear()
            return moved if moved is None or times == 1 else torch.cat([moved] * times)

        def after(step: Step, prev_sample: Tensor) -> Tensor | None:
            nonlocal leaf
            if after_step is None:
                return None
            leaf = after_step(step, prev_sample[:images])
            return (
                leaf if leaf is None or images is None else torch.cat([leaf] * (len(prev_sample) // images))
            )

        denoiser, prior, autoencoder = self.denoiser, prior_of(self.pipe), autoencoder_of(self.pipe)
        handles = [
            denoiser.register_forward_pre_hook(count, with_kwargs=True),
            denoiser.register_forward_hook(note, with_kwargs=True),
        ]
        if prior is not None:
            handles.append(prior.register_forward_pre_hook(count, with_kwargs=True))
        last = getattr(autoencoder, "decoder", None) or getattr(autoencoder, "out_block", None)
        if isinstance(last, torch.nn.Module):
            handles.append(last.register_forward_hook(pixels))
        starting = nullcontext() if begin is None else beginning_with(self.pipe, begin)
        call = unwrapped_call(self.pipe) if gradients else self.pipe
        still = frozen(self.pipe) if gradients else nullcontext()
        try:
            with (
                steer(self.pipe, before, after),
                starting,
                still,
                noting_decoded(self.pipe, kwargs, self._pasted),
            ):
                return list(call(**kwargs, output_type="pil").images)
        except LeaveEarly:
            return []
        except (ValueError, TypeError) as error:
            if begun or isinstance(error, InputError):
                raise
            raise InputError(f"{type(self.pipe).__name__} refuses this call: {error}") from error
        finally:
            self._outputs.clear()
            for handle in handles:
                handle.remove()

    def encode(self, prompt: str, kwargs: dict[str, Any]) -> Condition:
        """The text embeddings of one prompt, as the keyword arguments that the pipeline takes them in; the text itself where
        the family's encoding is not known; for a pipeline without prompts the class that is called so.

        Raises UnsupportedError for a text where the pipeline takes none.
        """
        if not self.prompted and (label := class_called(self.pipe, prompt)) is not None:
            return {"class_labels": [label]}
        return encode(self.pipe, prompt, kwargs)

    def meanings(self, texts: tuple[str, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """(N, C) what the pipeline's own text encoder makes of each text; None where that is not known. Kept until other texts or
        other settings are asked for, since a guard asks for its alternatives again and again."""
        plain = {k: v for k, v in kwargs.items() if isinstance(v, bool | int | float | str)}
        key = (texts, tuple(sorted(plain.items())))
        if self._meanings[0] != key:
            unguided = {**kwargs, "guidance_scale": 1.0}
            found = [meaning(self.encode(text, unguided)) for text in texts] if self.prompted else []
            known = [one for one in found if one is not None]
            self._meanings = key, torch.stack(known) if known and len(known) == len(texts) else None
        return self._meanings[1]

    def fresh(self, like: Tensor, kwargs: dict[str, Any], generator: torch.Generator) -> Tensor | None:
        """New noise of the shape of `like` to regenerate from; None where the pipeline must draw it, onto a picture."""
        if begins_from_picture(self.pipe, kwargs):
            return None
        noise = torch.randn(like.shape, generator=generator) * (
            self._noise_scale() / self._start_scale(kwargs)
        )
        return noise.to(like)

    def regenerate(
        self, condition: Condition, start: Tensor | None, kwargs: dict[str, Any], generator: torch.Generator,
        on_denoised: OnDenoised | None = None, *, resumed: bool = False, gradients: int = 0,
    ) -> Pass:  # fmt: skip
        """The whole way again from the noise `start` (1, …) under another condition; kwargs: the caller's own.

        start: as in `Pass`; None to begin with what the pipeline draws from `generator`. Raises UnsupportedError where the
        pipeline cannot begin from a given latent.
        """
        given = self._regenerating(condition, start, kwargs, generator)
        return self.run(on_denoised, resumed=resumed, gradients=gradients, **given)

    def _regenerating(
        self, condition: Condition, start: Tensor | None, kwargs: dict[str, Any], generator: torch.Generator
    ) -> dict[str, Any]:
        """The pipeline's arguments for `regenerate`, and `begin` as `run` takes it."""
        takes = parameters(self.pipe)
        rest = {k: v for k, v in kwargs.items() if k not in OURS}
        if EMBEDS in condition and "negative_prompt" in takes:
            rest["negative_prompt"] = None  # some families default to "", which they refuse beside embeddings
        if "guidance_scale" not in takes and ("kwargs" not in takes or hasattr(self.pipe, "decoder_pipe")):
            rest.pop("guidance_scale", None)  # a strategy looked without guidance where there never is any
        if start is not None and begins_from_picture(self.pipe, kwargs):
            rest.update(repeated(rest, len(start)))
        if start is not None and takes_latents(self.pipe, kwargs):
            rest["latents"], start = self._unpacked(start, kwargs), None
        return {**rest, **condition, "generator": generator, "begin": start}

    def resume(
        self, clean: Tensor, strength: float, condition: Condition, kwargs: dict[str, Any], generator: torch.Generator,
        on_denoised: OnDenoised | None = None,
    ) -> Pass:  # fmt: skip
        """Noise a clean latent (1, …) back to a level and denoise it from there (SDEdit, as image-to-image does).

        strength: share of the steps that are done again, in (0, 1]. The schedule is that of the last pass from pure noise.
        """
        if kwargs.get("timesteps") is not None or kwargs.get("sigmas") is not None:
            raise UnsupportedError(
                "resuming from a noise level is not possible under custom timesteps or sigmas"
            )
        if begins_from_picture(self.pipe, kwargs):
            raise UnsupportedError(
                f"{type(self.pipe).__name__} begins at a noise level of its own; it cannot be resumed from another"
            )
        if not self._schedule:
            self.regenerate(condition, clean, kwargs, generator, _leave)
        scheduler = self.pipe.scheduler
        noisy, skip = noised(scheduler, self._schedule, clean, strength, generator)
        with starting_at(scheduler, skip) as arrived:

            def see(step: Step) -> Tensor | None:
                arrived()
                return on_denoised(step) if on_denoised else None

            # pipelines multiply what they are given by the scale of pure noise
            start = noisy / self._start_scale(kwargs)
            return self.regenerate(condition, start, kwargs, generator, see, resumed=True)

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

    def _start_scale(self, kwargs: dict[str, Any]) -> float:
        """By what the pipeline multiplies the latent that it is given, which is nothing where it is given none."""
        return self._noise_scale() if takes_latents(self.pipe, kwargs) else 1.0


def _leave(step: Step) -> Tensor | None:
    raise LeaveEarly
