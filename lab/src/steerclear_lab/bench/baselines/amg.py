"""AMG: Chen et al., "Towards Memorization-Free Diffusion Models" (CVPR 2024): anti-memorization guidance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear.pixels import fit
from steerclear_lab.bench.baselines.base import Context, Made, Moment, References, Run
from steerclear_lab.bench.baselines.denoisers import OfUNet

SSCD_THRESHOLD = 0.5  # at which the paper's descriptor says copy


@dataclass(frozen=True)
class AntiMemorization:
    """Each step: decode x̂₀, find the nearest protected picture, and while their similarity s > λ_t = 0.4 − 0.1 e^{−0.005 t}:

    despecification, ε = ε_u + (g − s₁) Δ with s₁ = clip(13 s, 0, g − 1); dissimilarity, ε += √(1 − ᾱ_t) c ∇_x s with
    c = 100 (s − 0.3) e^{(1000 − t)/170}, through decoder and denoiser, which lowers s.

    s is the copy descriptor's cosine, scaled so that its threshold stands where SSCD's 0.5 does. push: multiplies c, whose
    100 belongs to SSCD's gradients; despecify=False with push=0 is the plain pipeline.
    """

    push: float = 1.0
    despecify: bool = True
    name: ClassVar[str] = "AMG"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"push": (1.0, 3.0, 10.0, 30.0)}
    source: ClassVar[str] = "Chen et al., CVPR 2024, despecification and dissimilarity guidance"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run, known = Run(context, prompt, seed), context.known()

        def guide(moment: Moment) -> Tensor:
            with torch.enable_grad():
                sample = moment.sample.detach().requires_grad_(True)
                moment.sample = sample
                output = moment.guided()
                similarity = nearest(context.denoiser, known, moment.denoised(output))
            s, t = float(similarity.detach()), float(moment.timestep)
            if s <= limit(t):
                return output.detach()
            unconditional, conditional = (half.detach() for half in moment.pair)
            scale = context.guidance
            if self.despecify:
                scale -= min(max(13 * s, 0.0), context.guidance - 1)
            changed = unconditional + scale * (conditional - unconditional)
            if self.push:
                gradient = run.gradient(similarity, sample, 2)
                push = self.push * 100 * (s - 0.3) * math.exp((1000 - t) / 170)
                changed = changed + moment.affine.sigma * push * gradient / moment.unit
            return changed

        return run.made(run.denoise(guide))


def limit(timestep: float) -> float:
    """λ_t."""
    return 0.4 - 0.1 * math.exp(-0.005 * timestep)


def nearest(denoiser: OfUNet, known: References, denoised: Tensor) -> Tensor:
    """The scaled similarity of x̂₀ (1, …), decoded, with the nearest protected picture; differentiable."""
    pixels = denoiser.pixels(denoised)
    embedding = known.encoder(fit((pixels / 2 + 0.5).clamp(0, 1), known.encoder.size))
    scaled: Tensor = (embedding @ known.embeddings.T).max() * (SSCD_THRESHOLD / known.threshold)
    return scaled
