"""Embedding nudging as its paper has it: Zand & Nasr, arXiv 2408.15450."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear.filters.base import flagged
from steerclear.generators import PipelineRunner
from steerclear.pixels import cosines
from steerclear_lab.bench.baselines.base import Context, Made, Run


@dataclass(frozen=True)
class PaperNudge:
    """Where the finished picture is flagged: minimise over its final latent L, from L₀ (§3),

        J(L) = −α mean_D cos(L, d) + β mean_U cos(L, u) + γ ‖L − L₀‖₂

    by Adam, noise it back to a level, and denoise again under the request's own condition. U: the protected pictures that the
    filters name; D: the `wanted` ordinary pictures nearest to L₀, if the context has any. The norm is the plain one, γ is the
    paper's 1. strength: share of the steps done again. Nothing verifies the second picture.
    """

    strength: float = 0.7
    rate: float = 0.05
    iterations: int = 50
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    wanted: int = 5
    name: ClassVar[str] = "paper"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"strength": (0.7, 0.5), "rate": (0.05, 0.5)}
    source: ClassVar[str] = "Zand & Nasr, arXiv 2408.15450, §3"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run, known = Run(context, prompt, seed), context.known()
        latent = run.denoise()
        plain = run.made(latent)
        assert plain.image is not None
        found = context.flagging().check([plain.image])[0]
        names = dict.fromkeys(d.matched for d in found if d.flagged and d.matched in known.ids)
        if not flagged(found) or not self.strength:
            return plain
        unwanted = torch.stack([known.latents[known.ids.index(n)] for n in names if n]) if names else latent
        preferred = latent[:0] if known.ordinary is None else nearest(latent, known.ordinary, self.wanted)
        generator = PipelineRunner(context.pipe)
        again = generator.resume(
            self.nudged(latent, preferred, unwanted), self.strength,
            condition=generator.encode(prompt, context.call), kwargs=context.call, generator=run.generator,
        )  # fmt: skip
        return Made(again.images[0], plain.evaluations + again.nfe)

    def nudged(self, origin: Tensor, preferred: Tensor, unwanted: Tensor) -> Tensor:
        """The latent (1, …) after `iterations` of Adam on J."""
        latent = origin.detach().clone().requires_grad_(True)
        optimiser = torch.optim.Adam([latent], lr=self.rate)
        for _ in range(self.iterations):
            with torch.enable_grad():
                value = self.objective(latent, origin, preferred, unwanted)
            (latent.grad,) = torch.autograd.grad(value, latent)
            optimiser.step()
        return latent.detach()

    def objective(self, latent: Tensor, origin: Tensor, preferred: Tensor, unwanted: Tensor) -> Tensor:
        """J(L); latent, origin: (1, …), preferred: (D, …), unwanted: (U, …), either may be empty."""
        value: Tensor = self.gamma * (latent - origin).norm()
        if len(preferred):
            value = value - self.alpha * cosines(latent, preferred).mean()
        if len(unwanted):
            value = value + self.beta * cosines(latent, unwanted).mean()
        return value


def nearest(latent: Tensor, others: Tensor, count: int) -> Tensor:
    """The `count` of others (M, …) with the highest cosine to latent (1, …)."""
    return others[cosines(latent, others).topk(min(count, len(others))).indices]
