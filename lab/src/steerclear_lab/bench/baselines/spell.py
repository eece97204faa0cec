"""SPELL: Kirchhof et al., "Shielded Diffusion: … Images using Sparse Repellency" (ICML 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run, SamplingStep


@dataclass(frozen=True)
class Spell:
    """x̂₀ ← x̂₀ + λ Σ_k relu(r / ‖x̂₀ − z_k‖ − 1) (x̂₀ − z_k) at every step (eq. 6).

    Outside all balls around the protected latents z_k nothing changes.

    Attributes:
        radius: r, as a share of the median distance between two protected latents.
        strength: λ.
    """

    radius: float = 0.8
    strength: float = 1.6
    name: ClassVar[str] = "SPELL"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"radius": (0.8, 0.6, 0.7, 0.9)}
    source: ClassVar[str] = "Kirchhof et al., ICML 2025, eq. 6"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run, centres = Run(context, prompt, seed), context.required_references().latents
        radius = self.radius * typical_distance(centres)

        def guide(step: SamplingStep) -> Tensor:
            output = step.guided()
            push = self.strength * repellency(step.denoised(output), centres, radius)
            return step.shift_denoised(output, push) if bool(push.any()) else output

        return run.output(run.denoise(guide))


def repellency(denoised: Tensor, centres: Tensor, radius: float) -> Tensor:
    """Σ_k relu(r / ‖x̂₀ − z_k‖ − 1) (x̂₀ − z_k), (1, …); zero outside every radius. centres: (K, …)."""
    offsets = denoised - centres.to(denoised)
    distance = offsets.flatten(1).norm(dim=1).clamp(min=1e-8)
    weight = (radius / distance - 1).relu()
    return torch.einsum("k,k...->...", weight, offsets)[None]


def typical_distance(latents: Tensor) -> float:
    """The median distance between two latents of (K, …); the length of the latent where there is only one."""
    flat = latents.flatten(1).float()
    distances = torch.pdist(flat) if len(flat) > 1 else flat.norm(dim=1)
    return float(distances.median())
