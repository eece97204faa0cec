"""SAIL: Jeon et al., "Understanding and Mitigating Memorization … via Sharpness of Probability Landscapes" (ICML 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.base import Context, Made, Run


@dataclass(frozen=True)
class Sail:
    """Minimise ‖Δ(x + δΔ̂) − Δ(x)‖² + α‖x‖² over the initial noise x_T, by Adam, then denoise as usual.

    It ends where the first term, the sharpness, is at most `target` times the median of ordinary prompts. δ is a length: it
    is scaled by √(d / 16384), d the size of the latent, 16384 Stable Diffusion's.
    """

    delta: float = 1.0
    alpha: float = 0.05
    iterations: int = 10
    rate: float = 0.05
    target: float = 1.0
    name: ClassVar[str] = "SAIL"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"target": (1.0, 0.5), "delta": (1.0, 10.0)}
    source: ClassVar[str] = "Jeon et al., ICML 2025, sharpness-aware initialisation"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, prompt, seed)
        if not self.iterations:
            return run.made(run.denoise())
        target = self.target * context.typical(f"sharpness {self.delta}", self.typical_sharpness)
        return run.made(run.denoise(start=self.optimised(run, target)))

    def optimised(self, run: Run, target: float) -> Tensor:
        """The noise (1, …) after at most `iterations` steps."""
        noise = run.start.detach().clone().requires_grad_(True)
        optimiser = torch.optim.Adam([noise], lr=self.rate)
        for _ in range(self.iterations):
            with torch.enable_grad():
                sharp = self.sharpness(run, noise)
                loss = sharp + self.alpha * noise.square().sum()
            if float(sharp.detach()) <= target:
                break
            noise.grad = run.gradient(loss, noise, 4)
            optimiser.step()
        return noise.detach()

    def sharpness(self, run: Run, noise: Tensor) -> Tensor:
        """‖Δ(x + δΔ̂) − Δ(x)‖²: the curvature of the guidance along itself, by finite differences."""
        here = run.first(noise).delta
        length = self.delta * (noise.numel() / 16384) ** 0.5
        there = run.first(noise + length * here / here.norm().clamp(min=1e-12)).delta
        return (there - here).square().sum()

    def typical_sharpness(self, run: Run) -> float:
        with torch.no_grad():
            return float(self.sharpness(run, run.start))
