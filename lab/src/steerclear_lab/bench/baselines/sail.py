"""SAIL: Jeon et al., "Understanding … Memorization … via Sharpness of Probability Landscapes" (ICML 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run


@dataclass(frozen=True)
class Sail:
    """Minimise ‖Δ(x + δΔ̂) − Δ(x)‖² + α‖x‖² over the initial noise x_T by Adam, then denoise as usual.

    Attributes:
        delta: δ, a length, for Stable Diffusion's 16384 latent values; scaled by √(d / 16384).
        alpha: α.
        iterations: most iterations; 0 is the plain pipeline.
        rate: learning rate.
        target: of the first term, the sharpness, in multiples of the median of ordinary prompts.
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

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        if not self.iterations:
            return run.output(run.denoise())
        target = self.target * context.typical(f"sharpness {self.delta}", self.typical_sharpness)
        return run.output(run.denoise(start=self.optimised(run, target)))

    def optimised(self, run: Run, target: float) -> Tensor:
        """The noise (1, …) after at most `iterations` steps."""
        noise = run.start.detach().clone().requires_grad_(True)
        optimiser = torch.optim.Adam([noise], lr=self.rate)
        for _ in range(self.iterations):
            with torch.enable_grad():
                sharpness = self.sharpness(run, noise)
                loss = sharpness + self.alpha * noise.square().sum()
            if float(sharpness.detach()) <= target:
                break
            noise.grad = run.gradient(loss, noise, 4)
            optimiser.step()
        return noise.detach()

    def sharpness(self, run: Run, noise: Tensor) -> Tensor:
        """‖Δ(x + δΔ̂) − Δ(x)‖²: the curvature along Δ, by finite differences."""
        here = run.first_step(noise).delta
        length = self.delta * (noise.numel() / 16384) ** 0.5
        there = run.first_step(noise + length * here / here.norm().clamp(min=1e-12)).delta
        return (there - here).square().sum()

    def typical_sharpness(self, run: Run) -> float:
        """The sharpness at a run's own noise."""
        with torch.no_grad():
            return float(self.sharpness(run, run.start))
