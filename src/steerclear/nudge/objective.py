"""The paper's objective (arXiv 2408.15450, §3) over a latent or any other tensor, and its minimisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Objective:
    """J(L) = −α · mean_d cos(E(L), d) + β · mean_u cos(E(L), u) + γ · ‖L − L₀‖₂² / ‖L₀‖₂².

    preferred: (D, …) and unwanted: (U, …), of the shape of E(L) but for the first dimension, either may be empty.
    space: E, differentiable, (1, …) → (1, …); None for the latent itself.
    The distance is relative to the length of L₀, so that γ means the same for every latent size. It is squared, where
    the paper has the plain norm: that one has a kink at L₀, as steep as both cosines together, and with the paper's
    γ = 1 it holds most latents exactly where they are.
    """

    preferred: Tensor | None
    unwanted: Tensor | None
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    space: Callable[[Tensor], Tensor] | None = None

    def __call__(self, latent: Tensor, origin: Tensor) -> Tensor:
        """latent, origin: (1, …). Returns a scalar."""
        value: Tensor = self.gamma * ((latent - origin).norm() / origin.norm().clamp(min=1e-8)).square()
        point = latent if self.space is None else self.space(latent)
        if self.preferred is not None and len(self.preferred):
            value = value - self.alpha * cosines(point, self.preferred).mean()
        if self.unwanted is not None and len(self.unwanted):
            value = value + self.beta * cosines(point, self.unwanted).mean()
        return value


def cosines(latent: Tensor, others: Tensor) -> Tensor:
    """Cosine of one latent (1, …) with each of (N, …), all flattened. Returns (N,)."""
    return F.cosine_similarity(latent.flatten(1), others.to(latent).flatten(1), dim=1)


def minimise(
    objective: Callable[[Tensor, Tensor], Tensor],
    origin: Tensor,
    *,
    iterations: int = 50,
    rate: float = 0.05,
    enough: Callable[[Tensor], bool] | None = None,
) -> Tensor:
    """Gradient descent from `origin` (1, …) with steps of `rate` · ‖origin‖, halved whenever J would rise.

    objective(latent, origin): an `Objective`, or any differentiable scalar of the latent. enough(latent): asked after each
    step that lowered J; the descent ends where it says so.

    Normalised steps make the rate independent of latent size and of J's weights; backtracking keeps it from
    diverging; the length of the origin is kept, since a cosine's gradient is orthogonal to the latent and would let it
    grow; a value that is not finite ends it with the last good latent.
    """
    latent = origin.detach().float()
    base, length = latent.clone(), float(latent.norm())
    step, least = rate * length, 1e-4 * length
    for _ in range(iterations):
        with torch.enable_grad():
            probe = latent.clone().requires_grad_(True)
            current = objective(probe, base)
            (gradient,) = torch.autograd.grad(current, probe)
        size, value = float(gradient.norm()), float(current.detach())
        if not math.isfinite(size) or not math.isfinite(value) or size < 1e-12:
            break
        direction = gradient / size
        while step > least:
            moved = latent - step * direction
            moved = moved * (length / moved.norm())
            with torch.no_grad():
                lower = float(objective(moved, base)) < value
            if lower:
                latent = moved
                break
            step /= 2
        else:
            break
        if enough is not None and enough(latent.to(origin.dtype)):
            break
    return latent.detach().to(origin.dtype)
