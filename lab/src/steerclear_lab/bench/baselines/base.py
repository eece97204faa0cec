"""What every method of the comparison takes and returns, and the denoising loop that it may guide otherwise.

The loop is the pipeline's own: a method that changes nothing gives the plain pipeline's picture bit for bit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from PIL import Image
from torch import Tensor

from steerclear.encoders import Encoder
from steerclear.errors import ConfigError
from steerclear.guard import Guard
from steerclear.steering.denoised import Affine, affine
from steerclear_lab.bench.baselines.denoisers import UNetDenoiser, denoiser_for

BACKWARD = 2  # evaluations that a backward pass through one evaluation counts as
CALIBRATION_SEED = 7  # of the first ordinary prompt that a typical value is measured on


@dataclass(frozen=True)
class MethodOutput:
    """What a method hands out for one request, and what it cost.

    Attributes:
        image: the picture, or None where the method hands out nothing.
        evaluations: evaluations of the denoiser.
        backwards: evaluations that gradients were passed back through.
    """

    image: Image.Image | None
    evaluations: float
    backwards: float = 0.0

    @property
    def nfe(self) -> float:
        """The cost in evaluations; a backward pass counts as two more."""
        return self.evaluations + BACKWARD * self.backwards


@dataclass(frozen=True)
class References:
    """The pictures that must not be reproduced, for methods that compare with them.

    Attributes:
        ids: names of the N pictures.
        captions: their N captions.
        latents: (N, …) by the pipeline's autoencoder.
        encoder: the copy descriptor.
        embeddings: (N, D) of the pictures, by the encoder.
        threshold: cosine from which the encoder calls a picture a copy.
        ordinary: (M, …) latents of pictures that are no copies, for methods that prefer some, or None.
    """

    ids: tuple[str, ...]
    captions: tuple[str, ...]
    latents: Tensor
    encoder: Encoder
    embeddings: Tensor
    threshold: float
    ordinary: Tensor | None = None


@dataclass(frozen=True)
class Context:
    """One model and its settings, the same for every method.

    A method raises UnsupportedError where the pipeline lacks what the method acts on.

    Attributes:
        pipe: of one of the classes in `denoisers.DENOISERS`; its networks are frozen.
        steps: denoising steps.
        guidance: guidance scale.
        guard: over the same pipe; its filters say what is flagged.
        references: the protected pictures.
        concept: what the protected pictures are, in words, for methods that steer away from words.
        ordinary: harmless prompts that methods may calibrate on.
        extra: further arguments of every call of the pipeline.
        memory: typical values that were measured already, by name.
    """

    pipe: Any
    steps: int = 25
    guidance: float = 4.0
    guard: Guard | None = None
    references: References | None = None
    concept: str = ""
    ordinary: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.denoiser  # noqa: B018  refuse at once a pipeline that the methods are not written for
        for part in self.pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)

    @cached_property
    def denoiser(self) -> UNetDenoiser:
        """How the pipeline's denoiser is called."""
        return denoiser_for(self.pipe, self.extra)

    @property
    def call(self) -> dict[str, Any]:
        """The arguments of every call of the pipeline, but the prompt."""
        return {"num_inference_steps": self.steps, "guidance_scale": self.guidance, **self.extra}

    @property
    def plain_nfe(self) -> float:
        """The evaluations of a plain picture."""
        return float(self.steps * (2 if self.guidance > 1 else 1))

    def typical(self, name: str, measure: Callable[[Run], float]) -> float:
        """The median of a measure over the ordinary prompts, which is measured once.

        Papers state some thresholds in units of their own model; this is the unit here. Its cost counts for
        no request, as that of any calibration.

        Args:
            name: of the measure.
            measure: run → its value.

        Raises:
            ConfigError: if the context has no ordinary prompts.
        """
        if name not in self.memory:
            if not self.ordinary:
                raise ConfigError(
                    f"{name!r} is measured in units of ordinary prompts, and the context has none; "
                    "give Context(ordinary=…)"
                )
            runs = [Run(self, prompt, CALIBRATION_SEED + i) for i, prompt in enumerate(self.ordinary)]
            self.memory[name] = statistics.median(measure(run) for run in runs)
        return self.memory[name]

    def required_references(self) -> References:
        """The references.

        Raises:
            ConfigError: if there are none.
        """
        if self.references is None:
            raise ConfigError(
                "this method compares with reference pictures, and the context has none; "
                "give Context(references=…)"
            )
        return self.references

    def required_guard(self) -> Guard:
        """The guard.

        Raises:
            ConfigError: if there is none.
        """
        if self.guard is None:
            raise ConfigError(
                "this method needs to know what is flagged, and the context has no guard; "
                "give Context(guard=…)"
            )
        return self.guard


class Method(Protocol):
    """A method of preventing copies; its fields are its hyper-parameters, by default its paper's.

    Where a default is scaled to the model, the method's docstring says how.

    Attributes:
        name: in tables and on the command line.
        needs_reference: whether it compares with the protected pictures.
        grid: the values that tuning may try for some of its fields, the default first.
        source: paper and equation.
    """

    name: ClassVar[str]
    needs_reference: ClassVar[bool]
    grid: ClassVar[Mapping[str, tuple[Any, ...]]]
    source: ClassVar[str]

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        """One picture of a prompt, the same for the same seed."""
        ...


class Run:
    """The generation of one picture: its noise, its embeddings, and the count of its cost.

    Attributes:
        start: the noise (1, …) that it begins with.
        evaluations: evaluations of the denoiser so far.
        backwards: evaluations that gradients were passed back through so far.
    """

    def __init__(self, context: Context, prompt: str, seed: int) -> None:
        self.context, self.pipe, self.prompt = context, context.pipe, prompt
        self.denoiser = context.denoiser
        self.evaluations = self.backwards = 0.0
        self.generator = torch.Generator().manual_seed(seed)
        pipe = self.pipe
        pipe.scheduler.set_timesteps(context.steps, device=pipe._execution_device)
        noise = torch.randn(self.denoiser.shape, generator=self.generator, dtype=self.denoiser.network.dtype)
        scale = getattr(pipe.scheduler, "init_noise_sigma", 1.0)  # flow matching begins with the noise itself
        self.start: Tensor = noise.to(pipe._execution_device) * scale

    def embed(self, text: str) -> Tensor:
        """The condition (1, L, D) that the pipeline makes of a text."""
        return self.denoiser.embed(text)

    @cached_property
    def cond(self) -> Tensor:
        """The condition of the prompt, (1, L, D)."""
        return self.embed(self.prompt)

    @cached_property
    def uncond(self) -> Tensor:
        """The condition of the empty prompt, (1, L, D)."""
        return self.embed("")

    def outputs(self, sample: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        """The model's outputs (N, …) for one sample (1, …) under N embeddings (N, L, D); N evaluations."""
        rows = torch.cat([sample] * len(embeds))
        if hasattr(self.pipe.scheduler, "scale_model_input"):
            rows = self.pipe.scheduler.scale_model_input(rows, timestep)
        self.evaluations += len(embeds)
        return self.denoiser.outputs(rows, timestep, embeds)

    def first_step(self, sample: Tensor | None = None, cond: Tensor | None = None) -> SamplingStep:
        """The first step, before anything is denoised, at another noise or condition where they are given."""
        timestep = self.pipe.scheduler.timesteps[0]
        return SamplingStep(
            run=self,
            index=0,
            timestep=timestep,
            sample=self.start if sample is None else sample,
            affine=affine(self.pipe.scheduler, timestep),
            condition=cond,
        )

    def gradient(self, value: Tensor, of: Tensor, evaluations: int) -> Tensor:
        """The gradient of a scalar, counted as a backward pass.

        Args:
            value: the scalar.
            of: the tensor to differentiate by.
            evaluations: how many evaluations the gradient passes through.
        """
        self.backwards += evaluations
        (gradient,) = torch.autograd.grad(value, of)
        return gradient

    def denoise(
        self,
        guide: Callable[[SamplingStep], Tensor] | None = None,
        start: Tensor | None = None,
        cond: Tensor | None = None,
    ) -> Tensor:
        """Run all denoising steps.

        Args:
            guide: step → what the scheduler receives; by default the guided output.
            start: noise (1, …) to begin with; by default the run's own.
            cond: condition (1, L, D); by default the prompt's.

        Returns:
            The final latent (1, …).
        """
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(self.context.steps, device=self.pipe._execution_device)
        extra = self.denoiser.step_arguments(self.generator)
        sample = self.start if start is None else start
        with torch.no_grad():
            for index, timestep in enumerate(scheduler.timesteps):
                step = SamplingStep(
                    run=self,
                    index=index,
                    timestep=timestep,
                    sample=sample,
                    affine=affine(scheduler, timestep),
                    condition=cond,
                )
                output = step.guided() if guide is None else guide(step)
                sample = scheduler.step(output, timestep, sample, **extra, return_dict=False)[0]
        return sample

    def output(self, latents: Tensor) -> MethodOutput:
        """Decode a final latent (1, …), and return its picture with the run's cost."""
        with torch.no_grad():
            image = self.denoiser.image(self.denoiser.pixels(latents))
        return MethodOutput(image, self.evaluations, self.backwards)


@dataclass(kw_only=True)
class SamplingStep:
    """One step of a run, before the scheduler takes it. The model is evaluated only when an output is used.

    Attributes:
        run: the run.
        index: of the step, from 0.
        timestep: of the scheduler.
        sample: the noisy latent (1, …).
        affine: how `denoised` depends on sample and output at this timestep.
        condition: (1, L, D), or None for the prompt's.
    """

    run: Run
    index: int
    timestep: Tensor
    sample: Tensor
    affine: Affine
    condition: Tensor | None = None

    @property
    def cond(self) -> Tensor:
        """The condition of this step, (1, L, D)."""
        return self.run.cond if self.condition is None else self.condition

    @cached_property
    def both_outputs(self) -> tuple[Tensor, Tensor]:
        """The model's outputs without and with the condition: two evaluations, as one batch."""
        out = self.run.outputs(self.sample, self.timestep, torch.cat([self.run.uncond, self.cond]))
        unconditional, conditional = out.chunk(2)
        return unconditional, conditional

    def guided(self, scale: float | None = None) -> Tensor:
        """The output under classifier-free guidance, by default with the context's scale."""
        scale = self.run.context.guidance if scale is None else scale
        unconditional, conditional = self.both_outputs
        return unconditional + scale * (conditional - unconditional)

    def predict(self, embeds: Tensor) -> Tensor:
        """The model's output under one embedding (1, L, D): one evaluation."""
        return self.run.outputs(self.sample, self.timestep, embeds)

    @property
    def noise_per_output(self) -> float:
        """The factor c in ε₁ − ε₂ = c · (output₁ − output₂): 1 for a model that predicts ε, α for v.

        It is 1 for flow matching as well, and wherever α is 0. There the sample is all noise whatever the
        prompt, and a measure or a push in ε would be nothing or infinite; methods use the velocity in its
        place.
        """
        if math.isclose(self.affine.alpha + self.affine.sigma, 1.0):
            return 1.0
        return -self.affine.alpha * self.affine.b / self.affine.sigma

    @property
    def delta(self) -> Tensor:
        """Δ = ε_c − ε_u, (1, …)."""
        unconditional, conditional = self.both_outputs
        return self.noise_per_output * (conditional - unconditional)

    def denoised(self, output: Tensor) -> Tensor:
        """The clean latent (1, …) that an output predicts."""
        return self.affine.denoise(self.sample, output)

    def shift_denoised(self, output: Tensor, shift: Tensor) -> Tensor:
        """The output from which the scheduler predicts `denoised` + shift."""
        return output + shift / self.affine.b
