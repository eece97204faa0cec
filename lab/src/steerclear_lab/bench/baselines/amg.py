"""AMG: Chen et al., "Towards Memorization-Free Diffusion Models" (CVPR 2024): anti-memorization guidance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear.pixels import fit
from steerclear_lab.bench.baselines.base import Context, MethodOutput, References, Run, SamplingStep
from steerclear_lab.bench.baselines.denoisers import UNetDenoiser

SSCD_THRESHOLD = 0.5  # from which the paper's descriptor calls a picture a copy


@dataclass(frozen=True)
class AntiMemorization:
    """At each step decode x̂₀ and find the nearest protected picture; act while their similarity s > λ_t:

    λ_t = 0.4 − 0.1 e^{−0.005 t}
    despecification: ε = ε_u + (g − s₁) Δ with s₁ = clip(13 s, 0, g − 1)
    dissimilarity: ε += √(1 − ᾱ_t) c ∇_x s with c = 100 (s − 0.3) e^{(1000 − t)/170}, through decoder and
        denoiser

    s is the cosine by the copy descriptor, scaled so that its threshold lies where SSCD's 0.5 does.
    despecify=False with push=0 is the plain pipeline.

    Attributes:
        push: factor of c, whose 100 is made for SSCD's gradients.
        despecify: whether the guidance is lowered.
    """

    push: float = 1.0
    despecify: bool = True
    name: ClassVar[str] = "AMG"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"push": (1.0, 3.0, 10.0, 30.0)}
    source: ClassVar[str] = "Chen et al., CVPR 2024, despecification and dissimilarity guidance"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run, references = Run(context, prompt, seed), context.required_references()

        def guide(step: SamplingStep) -> Tensor:
            with torch.enable_grad():
                sample = step.sample.detach().requires_grad_(True)
                step.sample = sample
                output = step.guided()
                similarity = nearest_similarity(context.denoiser, references, step.denoised(output))
            s, t = float(similarity.detach()), float(step.timestep)
            if s <= limit(t):
                return output.detach()
            unconditional, conditional = (half.detach() for half in step.both_outputs)
            scale = context.guidance
            if self.despecify:
                scale -= min(max(13 * s, 0.0), context.guidance - 1)
            steered = unconditional + scale * (conditional - unconditional)
            if self.push:
                gradient = run.gradient(similarity, sample, 2)
                push = self.push * 100 * (s - 0.3) * math.exp((1000 - t) / 170)
                steered = steered + step.affine.sigma * push * gradient / step.noise_per_output
            return steered

        return run.output(run.denoise(guide))


def limit(timestep: float) -> float:
    """λ_t, the similarity above which the method acts."""
    return 0.4 - 0.1 * math.exp(-0.005 * timestep)


def nearest_similarity(denoiser: UNetDenoiser, references: References, denoised: Tensor) -> Tensor:
    """The scaled similarity of the decoded x̂₀ (1, …) with the nearest protected picture; differentiable."""
    pixels = denoiser.pixels(denoised)
    embedding = references.encoder(fit((pixels / 2 + 0.5).clamp(0, 1), references.encoder.size))
    scaled: Tensor = (embedding @ references.embeddings.T).max() * (SSCD_THRESHOLD / references.threshold)
    return scaled
