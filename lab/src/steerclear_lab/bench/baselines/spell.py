"""SPELL: Kirchhof et al., "Shielded Diffusion: Generating Novel and Diverse Images using Sparse Repellency" (ICML 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.base import Context, Made, Moment, Run


@dataclass(frozen=True)
class Spell:
    """x̂₀ ← x̂₀ + λ Σ_k relu(r / ‖x̂₀ − z_k‖ − 1) (x̂₀ − z_k) at every step: nothing outside every radius (eq. 6).

    radius: of the balls around the protected latents z_k, as a share of the median distance between two of them.
    """

    radius: float = 0.8
    strength: float = 1.6
    name: ClassVar[str] = "SPELL"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"radius": (0.8, 0.6, 0.7, 0.9)}
    source: ClassVar[str] = "Kirchhof et al., ICML 2025, eq. 6"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run, centres = Run(context, prompt, seed), context.known().latents
        radius = self.radius * typical_distance(centres)

        def guide(moment: Moment) -> Tensor:
            output = moment.guided()
            push = self.strength * repellency(moment.denoised(output), centres, radius)
            return moment.shifted(output, push) if bool(push.any()) else output

        return run.made(run.denoise(guide))


def repellency(denoised: Tensor, centres: Tensor, radius: float) -> Tensor:
    """Σ_k relu(r / ‖x̂₀ − z_k‖ − 1) (x̂₀ − z_k), (1, …); zero outside every radius. centres: (K, …)."""
    away = denoised - centres.to(denoised)
    distance = away.flatten(1).norm(dim=1).clamp(min=1e-8)
    weight = (radius / distance - 1).relu()
    return torch.einsum("k,k...->...", weight, away)[None]


def typical_distance(latents: Tensor) -> float:
    """The median distance between two of (K, …); their median length where there is only one."""
    flat = latents.flatten(1).float()
    apart = torch.pdist(flat) if len(flat) > 1 else flat.norm(dim=1)
    return float(apart.median())
