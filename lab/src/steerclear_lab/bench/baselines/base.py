"""What every method of the comparison is given and gives back, and the denoising loop in which it may replace the guidance.

The loop is the pipeline's own, so that a method that changes nothing gives the plain pipeline's picture bit for bit.
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
from steerclear_lab.bench.baselines.denoisers import OfUNet, denoiser_for

BACKWARD = 2  # evaluations that a backward pass through one evaluation counts as


@dataclass(frozen=True)
class Made:
    """image: None where the method hands out nothing; evaluations: of the denoiser, per image; backwards: evaluations that
    were passed through backwards."""

    image: Image.Image | None
    evaluations: float
    backwards: float = 0.0

    @property
    def nfe(self) -> float:
        return self.evaluations + BACKWARD * self.backwards


@dataclass(frozen=True)
class References:
    """The pictures that must not be reproduced, for methods that compare with them.

    ids, captions: N of each; latents: (N, …) by the pipeline's autoencoder; encoder: the copy descriptor; embeddings: (N, D)
    of the pictures by it; threshold: its cosine from which a picture counts as a copy; ordinary: (M, …) latents of pictures
    that are no copies, to be preferred.
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

    pipe: of one of `denoisers.KINDS`, frozen; guard: says what is flagged, over the same pipe; concept: in words, what the
    protected pictures are, for methods that want it in words; ordinary: harmless prompts that methods may calibrate on; extra:
    further arguments of every call of the pipeline. A method raises UnsupportedError where a pipeline has not what it acts on.
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
        self.denoiser  # noqa: B018  a pipeline that the methods are not written for is refused at once
        for part in self.pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)

    @cached_property
    def denoiser(self) -> OfUNet:
        """How the pipeline's denoiser is asked."""
        return denoiser_for(self.pipe, self.extra)

    @property
    def call(self) -> dict[str, Any]:
        """The settings of every call of the pipeline."""
        return {"num_inference_steps": self.steps, "guidance_scale": self.guidance, **self.extra}

    @property
    def plain_nfe(self) -> float:
        return float(self.steps * (2 if self.guidance > 1 else 1))

    def typical(self, name: str, measure: Callable[[Run], float]) -> float:
        """The median of a measure over the ordinary prompts, found once: the unit of thresholds that papers state in units
        of their own model. Its cost is nobody's, as a calibration's is."""
        if name not in self.memory:
            if not self.ordinary:
                raise ConfigError(f"{name!r} is measured in units of ordinary prompts, and none were given")
            runs = [Run(self, prompt, 7 + seed) for seed, prompt in enumerate(self.ordinary)]
            self.memory[name] = statistics.median(measure(run) for run in runs)
        return self.memory[name]

    def known(self) -> References:
        """The references. Raises ConfigError where there are none."""
        if self.references is None:
            raise ConfigError("this method compares with reference pictures, and none were given")
        return self.references

    def flagging(self) -> Guard:
        """The guard. Raises ConfigError where there is none."""
        if self.guard is None:
            raise ConfigError(
                "this method needs to know what is flagged, and there are no reference pictures"
            )
        return self.guard


class Method(Protocol):
    """One way of preventing copies. Its fields are its hyper-parameters, the defaults those of its paper, scaled as it says.

    needs_reference: whether it compares with the protected pictures; grid: the values that tuning may try for some of its
    fields, the default first; source: paper and equation.
    """

    name: ClassVar[str]
    needs_reference: ClassVar[bool]
    grid: ClassVar[Mapping[str, tuple[Any, ...]]]
    source: ClassVar[str]

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        """One picture of a prompt, the same for the same seed."""
        ...


class Run:
    """One image on its way: its noise, its embeddings, and the count of what it costs."""

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
        """(1, L, D) what the pipeline makes of a text."""
        return self.denoiser.embed(text)

    @cached_property
    def cond(self) -> Tensor:
        return self.embed(self.prompt)

    @cached_property
    def uncond(self) -> Tensor:
        return self.embed("")

    def outputs(self, sample: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        """(N, …) the model's outputs for one sample (1, …) under N embeddings (N, L, D): N evaluations."""
        rows = torch.cat([sample] * len(embeds))
        if hasattr(self.pipe.scheduler, "scale_model_input"):
            rows = self.pipe.scheduler.scale_model_input(rows, timestep)
        self.evaluations += len(embeds)
        return self.denoiser.outputs(rows, timestep, embeds)

    def first(self, sample: Tensor | None = None, cond: Tensor | None = None) -> Moment:
        """The first step, before anything is denoised, at this noise and under this condition."""
        timestep = self.pipe.scheduler.timesteps[0]
        sample = self.start if sample is None else sample
        return Moment(self, 0, timestep, sample, affine(self.pipe.scheduler, timestep), cond)

    def gradient(self, value: Tensor, of: Tensor, evaluations: int) -> Tensor:
        """d value / d of. evaluations: how many the pass goes back through."""
        self.backwards += evaluations
        (gradient,) = torch.autograd.grad(value, of)
        return gradient

    def denoise(
        self, guide: Callable[[Moment], Tensor] | None = None, start: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """The final latent (1, …). guide: returns what the scheduler receives at each step, by default the guided output;
        start, cond: other noise, another condition than the run's own."""
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(self.context.steps, device=self.pipe._execution_device)
        extra = self.denoiser.step_arguments(self.generator)
        sample = self.start if start is None else start
        with torch.no_grad():
            for index, timestep in enumerate(scheduler.timesteps):
                moment = Moment(self, index, timestep, sample, affine(scheduler, timestep), cond)
                output = moment.guided() if guide is None else guide(moment)
                sample = scheduler.step(output, timestep, sample, **extra, return_dict=False)[0]
        return sample

    def made(self, latents: Tensor) -> Made:
        """The picture of a final latent, and what it cost."""
        with torch.no_grad():
            image = self.denoiser.image(self.denoiser.pixels(latents))
        return Made(image, self.evaluations, self.backwards)


@dataclass
class Moment:
    """One step of one run, before the scheduler takes it. Nothing is evaluated until it is asked for."""

    run: Run
    index: int
    timestep: Tensor
    sample: Tensor
    affine: Affine
    condition: Tensor | None = None

    @property
    def cond(self) -> Tensor:
        return self.run.cond if self.condition is None else self.condition

    @cached_property
    def pair(self) -> tuple[Tensor, Tensor]:
        """The model's outputs without and with the condition: two evaluations, as one batch."""
        out = self.run.outputs(self.sample, self.timestep, torch.cat([self.run.uncond, self.cond]))
        unconditional, conditional = out.chunk(2)
        return unconditional, conditional

    def guided(self, scale: float | None = None) -> Tensor:
        """Classifier-free guidance, as the pipeline mixes it."""
        scale = self.run.context.guidance if scale is None else scale
        unconditional, conditional = self.pair
        return unconditional + scale * (conditional - unconditional)

    def alone(self, embeds: Tensor) -> Tensor:
        """The model's output under one embedding: one evaluation."""
        return self.run.outputs(self.sample, self.timestep, embeds)

    @property
    def unit(self) -> float:
        """Of noise in output: ε₁ − ε₂ = unit · (output₁ − output₂); 1 for a model that predicts ε, α for v.

        1 for flow matching as well, and wherever α is 0: ε is then all of the sample, whatever the prompt, and a measure or a
        push in it would be nothing or infinite. Methods see the velocity in its place.
        """
        if math.isclose(self.affine.alpha + self.affine.sigma, 1.0):
            return 1.0
        return -self.affine.alpha * self.affine.b / self.affine.sigma

    @property
    def delta(self) -> Tensor:
        """Δ = ε_c − ε_u, (1, …)."""
        unconditional, conditional = self.pair
        return self.unit * (conditional - unconditional)

    def denoised(self, output: Tensor) -> Tensor:
        return self.affine.denoise(self.sample, output)

    def shifted(self, output: Tensor, shift: Tensor) -> Tensor:
        """The output from which the scheduler predicts `denoised` + shift."""
        return output + shift / self.affine.b
