"""Han et al., "Adjusting Initial Noise to Mitigate Memorization …" (NeurIPS 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run
from steerclear_lab.bench.baselines.wen import magnitude


@dataclass(frozen=True)
class HanPerSample:
    """AdamW on the initial noise x_T until ‖Δ(x_T, T)‖ is below a target (the per-sample form).

    Attributes:
        target: in multiples of the median of ordinary prompts, since the paper's 0.9 is in units of Stable
            Diffusion. Wen's 3 in those units is 1 here, so 0.9 is 0.3.
        rate: learning rate.
        iterations: most iterations; 0 is the plain pipeline.
    """

    target: float = 0.3
    rate: float = 0.01
    iterations: int = 10
    name: ClassVar[str] = "Han per sample"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"target": (0.3, 1.0), "rate": (0.01, 0.05)}
    source: ClassVar[str] = "Han et al., NeurIPS 2025, per-sample form"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        if not self.iterations:
            return run.output(run.denoise())
        target = self.target * context.typical("magnitude", magnitude)
        return run.output(run.denoise(start=self.optimised(run, target)))

    def optimised(self, run: Run, target: float) -> Tensor:
        """The noise (1, …) after the optimisation."""
        noise = run.start.detach().clone().requires_grad_(True)
        optimiser = torch.optim.AdamW([noise], lr=self.rate)
        for _ in range(self.iterations):
            with torch.enable_grad():
                norm = run.first_step(noise).delta.norm()
            if float(norm.detach()) < target:
                break
            noise.grad = run.gradient(norm, noise, 2)
            optimiser.step()
        return noise.detach()


@dataclass(frozen=True)
class HanBatch:
    """Repeat x ← x − γ [Δ(x + ρΔ̂) − Δ(x)] on the initial noise, without gradients (the batch form).

    Attributes:
        rounds: repetitions, M in the paper.
        rho: ρ, a length, for Stable Diffusion's 16384 latent values; scaled by √(d / 16384).
        gamma: γ, a factor of Δ without unit.
    """

    rounds: int = 2
    rho: float = 50.0
    gamma: float = 0.7
    name: ClassVar[str] = "Han batch"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"gamma": (0.7, 2.0, 7.0, 20.0)}
    source: ClassVar[str] = "Han et al., NeurIPS 2025, batch form"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        noise = run.start
        with torch.no_grad():
            for _ in range(self.rounds):
                noise = self.updated(run, noise)
        return run.output(run.denoise(start=noise))

    def updated(self, run: Run, noise: Tensor) -> Tensor:
        """The noise (1, …) after one round."""
        here = run.first_step(noise).delta
        length = self.rho * (noise.numel() / 16384) ** 0.5
        there = run.first_step(noise + length * here / here.norm().clamp(min=1e-12)).delta
        return noise - self.gamma * (there - here)
