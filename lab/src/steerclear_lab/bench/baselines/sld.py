"""SLD: Schramowski et al., "Safe Latent Diffusion: Mitigating Inappropriate Degeneration …" (CVPR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run, SamplingStep

STRENGTHS: dict[str, tuple[int, float, float, float, float]] = {
    # warm-up δ, scale s_S, threshold λ, momentum s_m, decay β, as published
    "medium": (10, 1000.0, 0.01, 0.3, 0.4),
    "strong": (7, 2000.0, 0.025, 0.5, 0.7),
}


@dataclass(frozen=True)
class SafeLatentDiffusion:
    """ε = ε_u + g (ε_c − ε_u − γ): guidance away from the context's concept (§3).

    μ = min(1, |ε_c − ε_s| · s_S), zero where ε_c − ε_s ≥ λ
    γ = μ (ε_s − ε_u) + s_m ν
    ν ← β ν + (1 − β) γ

    γ acts after δ steps; ν accumulates from the first. δ is out of 50 steps and scales with their number.

    Attributes:
        strength: "medium" or "strong", the published settings.
        amount: factor of γ; 0 is the plain pipeline.
    """

    strength: str = "medium"
    amount: float = 1.0
    name: ClassVar[str] = "SLD"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"strength": ("medium", "strong"), "amount": (1.0, 2.0)}
    source: ClassVar[str] = "Schramowski et al., CVPR 2023, §3"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        if self.amount == 0:
            return run.output(run.denoise())
        unsafe = run.embed(context.concept)
        momentum = torch.zeros_like(run.start)
        warm_up = round(STRENGTHS[self.strength][0] * context.steps / 50)

        def guide(step: SamplingStep) -> Tensor:
            nonlocal momentum
            embeds = torch.cat([run.uncond, run.cond, unsafe])
            blank, prompted, concept = run.outputs(step.sample, step.timestep, embeds).chunk(3)
            # λ is in units of ε; everything else is linear and may stay in the model's own output
            factor = step.noise_per_output
            gamma, momentum = self.safety(
                blank=factor * blank, prompted=factor * prompted, concept=factor * concept, momentum=momentum
            )
            guided = prompted - blank
            if step.index >= warm_up:
                guided = guided - self.amount * gamma / factor
            return blank + context.guidance * guided

        return run.output(run.denoise(guide))

    def safety(
        self, *, blank: Tensor, prompted: Tensor, concept: Tensor, momentum: Tensor
    ) -> tuple[Tensor, Tensor]:
        """γ and the next ν, from ε_u, ε_c, ε_s and ν, all (1, …)."""
        _, scale, threshold, weight, decay = STRENGTHS[self.strength]
        difference = prompted - concept
        mu = (difference.abs() * scale).clamp(max=1.0)
        mu = torch.where(difference >= threshold, torch.zeros_like(difference), mu)
        gamma = mu * (concept - blank) + weight * momentum
        return gamma, decay * momentum + (1 - decay) * gamma
