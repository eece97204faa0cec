"""Embedding nudging as written in its paper: Zand & Nasr, arXiv 2408.15450."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear.filters.base import flagged
from steerclear.generators import PipelineRunner
from steerclear.pixels import cosines
from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run


@dataclass(frozen=True)
class PaperNudge:
    """Where the finished picture is flagged, nudge its final latent and denoise again (§3).

    Adam minimises, from the final latent L₀,

        J(L) = −α mean_D cos(L, d) + β mean_U cos(L, u) + γ ‖L − L₀‖₂

    Then L is noised back to a level and denoised under the request's own condition. U are the protected
    pictures that the filters matched; D are the ordinary pictures nearest to L₀, if the context has any.
    Nothing verifies the second picture.

    Attributes:
        strength: share of the steps that are done again; 0 is the plain pipeline.
        rate: learning rate.
        iterations: of Adam.
        alpha: α.
        beta: β.
        gamma: γ.
        wanted: how many ordinary pictures are in D.
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

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run, references = Run(context, prompt, seed), context.required_references()
        latent = run.denoise()
        plain = run.output(latent)
        assert plain.image is not None
        detections = context.required_guard().check([plain.image])[0]
        if not flagged(detections) or not self.strength:
            return plain
        ids = references.ids
        rows = dict.fromkeys(ids.index(d.matched) for d in detections if d.flagged and d.matched in ids)
        unwanted = references.latents[list(rows)] if rows else latent
        preferred = latent[:0]
        if references.ordinary is not None:
            preferred = nearest(latent, references.ordinary, self.wanted)
        runner = PipelineRunner(context.pipe)
        second = runner.resume(
            self.nudged(latent, preferred, unwanted),
            self.strength,
            condition=runner.encode(prompt, context.call),
            kwargs=context.call,
            generator=run.generator,
        )
        return MethodOutput(second.images[0], plain.evaluations + second.nfe)

    def nudged(self, origin: Tensor, preferred: Tensor, unwanted: Tensor) -> Tensor:
        """The latent (1, …) after `iterations` steps of Adam on J; arguments as of `objective`."""
        latent = origin.detach().clone().requires_grad_(True)
        optimiser = torch.optim.Adam([latent], lr=self.rate)
        for _ in range(self.iterations):
            with torch.enable_grad():
                value = self.objective(latent, origin, preferred=preferred, unwanted=unwanted)
            (latent.grad,) = torch.autograd.grad(value, latent)
            optimiser.step()
        return latent.detach()

    def objective(self, latent: Tensor, origin: Tensor, *, preferred: Tensor, unwanted: Tensor) -> Tensor:
        """J(L).

        Args:
            latent: L, (1, …).
            origin: L₀, (1, …).
            preferred: D, (D, …), may be empty.
            unwanted: U, (U, …), may be empty.
        """
        value: Tensor = self.gamma * (latent - origin).norm()
        if len(preferred):
            value = value - self.alpha * cosines(latent, preferred).mean()
        if len(unwanted):
            value = value + self.beta * cosines(latent, unwanted).mean()
        return value


def nearest(latent: Tensor, others: Tensor, count: int) -> Tensor:
    """The `count` latents of `others` (M, …) with the highest cosine to `latent` (1, …)."""
    return others[cosines(latent, others).topk(min(count, len(others))).indices]
