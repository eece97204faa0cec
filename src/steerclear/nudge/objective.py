"""The paper's objective (arXiv 2408.15450, §3) over a latent or any other tensor, and its minimisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import ConfigError
from steerclear.pixels import cosines

OPTIMISERS = ("descent", "adam")
LEAST_STEP = 1e-4  # of the latent's length: below that a halved step is given up
ADAM_BETAS = (0.9, 0.999)


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


@dataclass(frozen=True, eq=False)
class Descent:
    """How a minimisation went.

    latent: (1, …) where it ended; value: J there, NaN where J was never finite; iterations: steps that lowered J; halved: how
    often a step was halved since J would have risen; why: "iterations", "enough", "flat" (no step lowers J any more) or
    "not finite".
    """

    latent: Tensor
    value: float
    iterations: int
    halved: int
    why: str


def minimise(objective: Callable[[Tensor, Tensor], Tensor], origin: Tensor, **settings: Any) -> Tensor:
    """The latent at which `descend` ends, with its settings."""
    return descend(objective, origin, **settings).latent


def descend(
    objective: Callable[[Tensor, Tensor], Tensor],
    origin: Tensor,
    *,
    iterations: int = 50,
    rate: float = 0.05,
    optimiser: str = "descent",
    enough: Callable[[Tensor], bool] | None = None,
) -> Descent:
    """Minimise from `origin` (1, …) with steps of `rate` · ‖origin‖, halved whenever J would rise.

    objective(latent, origin): an `Objective`, or any differentiable scalar of the latent. optimiser: "descent" goes along the
    normalised gradient; "adam" along Adam's direction (Kingma & Ba, ICLR 2015, their β and ε), whose first step has the same
    length, and along the gradient where that direction leads nowhere lower. enough(latent): asked after each step that
    lowered J; the descent ends where it says so. Raises ConfigError for another optimiser.

    Steps relative to the length of the latent make the rate independent of its size and of J's weights; backtracking keeps
    it from diverging; the length of the origin is kept, since a cosine's gradient is orthogonal to the latent and would let
    it grow; a value that is not finite ends it with the last good latent.
    """
    if optimiser not in OPTIMISERS:
        raise ConfigError(f"there is no optimiser {optimiser!r}; there are {', '.join(OPTIMISERS)}")
    latent = origin.detach().float()
    base, length = latent.clone(), float(latent.norm())
    step, least = rate * length, LEAST_STEP * length
    moments = _Adam(latent) if optimiser == "adam" else None
    done = halved = 0
    reached = math.nan

    def ended(why: str) -> Descent:
        return Descent(latent.detach().to(origin.dtype), reached, done, halved, why)

    for _ in range(iterations):
        with torch.enable_grad():
            probe = latent.clone().requires_grad_(True)
            current = objective(probe, base)
            (gradient,) = torch.autograd.grad(current, probe)
        size, value = float(gradient.norm()), float(current.detach())
        if not math.isfinite(size) or not math.isfinite(value):
            return ended("not finite")
        reached = value
        if size < 1e-12:
            return ended("flat")
        direction = gradient / size if moments is None else moments.direction(gradient / size)
        lower = False
        while step > least:
            moved = latent - step * direction
            moved = moved * (length / moved.norm())
            with torch.no_grad():
                next_value = float(objective(moved, base))
            lower = next_value < value
            if lower:
                latent, reached, done = moved, next_value, done + 1
                break
            step, halved = step / 2, halved + 1
        else:
            if moments is None:
                return ended("flat")
            moments, step = None, rate * length
        if lower and enough is not None and enough(latent.to(origin.dtype)):
            return ended("enough")
    return ended("iterations")


class _Adam:
    """Adam's running moments of the gradient; its direction is scaled to length 1 in its first step."""

    def __init__(self, like: Tensor) -> None:
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like)
        self.turns = 0

    def direction(self, gradient: Tensor) -> Tensor:
        (one, two), self.turns = ADAM_BETAS, self.turns + 1
        self.first = one * self.first + (1 - one) * gradient
        self.second = two * self.second + (1 - two) * gradient.square()
        mean, spread = self.first / (1 - one**self.turns), self.second / (1 - two**self.turns)
        found: Tensor = mean / (spread.sqrt() + 1e-8) / math.sqrt(gradient.numel())
        return found
