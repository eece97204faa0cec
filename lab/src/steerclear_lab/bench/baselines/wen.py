"""Wen et al., "Detecting, Explaining, and Mitigating Memorization in Diffusion Models" (ICLR 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run


@dataclass(frozen=True)
class Wen:
    """Minimise ‖Δ(x_T, T)‖₂ (eq. 3) over the prompt embedding, down to a target, before the first step.

    AdamW with its defaults; the first token's gradient is zeroed. Then the picture is drawn with ordinary
    guidance.

    Attributes:
        target: in multiples of the median ‖Δ(x_T, T)‖ of ordinary prompts, since the paper's 3 (of a sweep
            from 1 to 7) is in units of Stable Diffusion.
        iterations: most iterations; 0 is the plain pipeline.
        rate: learning rate.
    """

    target: float = 1.0
    iterations: int = 10
    rate: float = 0.05
    name: ClassVar[str] = "Wen"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"target": (1.0, 0.75, 1.25, 0.5)}
    source: ClassVar[str] = "Wen et al., ICLR 2024, the magnitude of eq. 3 minimised at inference"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        target = self.target * context.typical("magnitude", magnitude) if self.iterations else 0.0
        run = Run(context, prompt, seed)
        return run.output(run.denoise(cond=self.optimised(run, target)))

    def optimised(self, run: Run, target: float) -> Tensor:
        """The prompt embedding (1, L, D) at which ‖Δ‖ is at most `target`, or after the last iteration."""
        if not self.iterations:
            return run.cond
        with torch.no_grad():
            unconditional = run.first_step().predict(run.uncond)
        embeds = run.cond.detach().clone().requires_grad_(True)
        optimiser = torch.optim.AdamW([embeds], lr=self.rate)
        for iteration in range(self.iterations + 1):
            step = run.first_step()
            with torch.enable_grad():
                norm = (step.noise_per_output * (step.predict(embeds) - unconditional)).norm()
            if float(norm.detach()) <= target or iteration == self.iterations:
                break
            gradient = run.gradient(norm, embeds, 1)
            gradient[:, 0] = 0
            embeds.grad = gradient
            optimiser.step()
        return embeds.detach()


def magnitude(run: Run) -> float:
    """‖Δ(x_T, T)‖₂, the paper's detection score (eq. 3)."""
    with torch.no_grad():
        return float(run.first_step().delta.norm())
