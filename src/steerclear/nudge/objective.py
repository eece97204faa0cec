"""The paper's objective over a latent or any other tensor, and its minimisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import ConfigError
from steerclear.pixels import cosines

OPTIMISERS = ("descent", "adam")
LEAST_STEP = 1e-4  # of the latent's length: a step is not halved below that
ADAM_BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class Objective:
    """J(L) = −α · mean_d cos(E(L), d) + β · mean_u cos(E(L), u) + γ · ‖L − L₀‖₂² / ‖L₀‖₂².

    This is the objective of arXiv 2408.15450, §3, with another distance. It is relative to the length of L₀,
    so that γ means the same for every latent size. It is squared, where the paper has the plain norm: that
    has a kink at L₀, as steep as both cosines together, and with the paper's γ = 1 it holds most latents
    exactly where they are.

    Attributes:
        preferred: D, (D, …) of the shape of E(L) but for the first dimension; None or empty for no pull.
        unwanted: U, (U, …) likewise; None or empty for no push.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of staying near.
        space: E, differentiable, (1, …) → (1, …); None for the latent itself.
    """

    preferred: Tensor | None
    unwanted: Tensor | None
    _: KW_ONLY
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    space: Callable[[Tensor], Tensor] | None = None

    def __call__(self, latent: Tensor, origin: Tensor) -> Tensor:
        """The value of J, a scalar.

        Args:
            latent: L, (1, …).
            origin: L₀, (1, …).
        """
        value: Tensor = self.gamma * ((latent - origin).norm() / origin.norm().clamp(min=1e-8)).square()
        point = latent if self.space is None else self.space(latent)
        if self.preferred is not None and len(self.preferred):
            value = value - self.alpha * cosines(point, self.preferred).mean()
        if self.unwanted is not None and len(self.unwanted):
            value = value + self.beta * cosines(point, self.unwanted).mean()
        return value


@dataclass(frozen=True, eq=False, kw_only=True)
class Descent:
    """How a minimisation went.

    Attributes:
        latent: (1, …) where it ended.
        value: J there; NaN where J was never finite.
        iterations: number of steps that lowered J.
        halved: how often a step was halved because J would have risen.
        why: "iterations" (all were done), "enough", "flat" (no step lowers J any more) or "not finite".
    """

    latent: Tensor
    value: float
    iterations: int
    halved: int
    why: str


def minimise(objective: Callable[[Tensor, Tensor], Tensor], origin: Tensor, **settings: Any) -> Tensor:
    """Minimise an objective, see `descend`.

    Args:
        objective: see `descend`.
        origin: (1, …) the latent to begin from.
        **settings: see `descend`.

    Returns:
        (1, …) the latent at which the descent ends.
    """
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
    """Minimise an objective, with steps relative to the latent's length and halved whenever J would rise.

    Relative steps make the rate independent of the latent's size and of J's weights. Halving keeps the
    descent from diverging. The length of the origin is kept: the gradient of a cosine is orthogonal to the
    latent and would let it grow. Where J or its gradient is not finite, the descent ends at the last good
    latent.

    Args:
        objective: an `Objective`, or any differentiable scalar of (latent, origin).
        origin: (1, …) the latent to begin from.
        iterations: number of steps at most.
        rate: length of a step, as a share of the length of `origin`.
        optimiser: "descent" steps along the normalised gradient. "adam" steps along Adam's direction (Kingma
            & Ba, ICLR 2015, with their β and ε), whose first step has the same length, and along the gradient
            once that direction leads nowhere lower.
        enough: asked about the latent (1, …) after each step that lowered J; the descent ends where it
            returns True.

    Raises:
        ConfigError: for another optimiser.
    """
    if optimiser not in OPTIMISERS:
        raise ConfigError(f"there is no optimiser {optimiser!r}; choose from {', '.join(OPTIMISERS)}")
    latent = origin.detach().float()
    start, length = latent.clone(), float(latent.norm())
    step, least_step = rate * length, LEAST_STEP * length
    moments = _AdamMoments(latent) if optimiser == "adam" else None
    scale = loss_scale(latent)
    done = halved = 0
    reached = math.nan

    def ended(why: str) -> Descent:
        final = latent.detach().to(origin.dtype)
        return Descent(latent=final, value=reached, iterations=done, halved=halved, why=why)

    for _ in range(iterations):
        with torch.enable_grad():
            probe = latent.clone().requires_grad_(True)
            current = objective(probe, start)
            (gradient,) = torch.autograd.grad(current * scale, probe)
        gradient = gradient / scale
        slope, value = float(gradient.norm()), float(current.detach())
        if not math.isfinite(slope) and math.isfinite(value) and scale > 1:
            scale = max(1.0, scale / 16)  # too large for a network in half precision
            continue
        if not math.isfinite(slope) or not math.isfinite(value):
            return ended("not finite")
        reached = value
        if slope < 1e-12:
            return ended("flat")
        direction = gradient / slope if moments is None else moments.direction(gradient / slope)
        lower = False
        while step > least_step:
            moved = latent - step * direction
            moved = moved * (length / moved.norm())
            with torch.no_grad():
                next_value = float(objective(moved, start))
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


def loss_scale(latent: Tensor) -> float:
    """By how much J is multiplied before its gradient is taken, and the gradient divided after.

    J is relative to the latent's size, so the entries of its gradient are about 1 / size, which float16
    flushes to zero inside a network. As in mixed-precision training (Micikevicius et al., ICLR 2018, §3.2).

    Args:
        latent: what J is differentiated by.

    Returns:
        A power of two, by which float32 multiplies and divides without rounding.
    """
    return 2.0 ** math.floor(math.log2(max(1, latent.numel())))


class _AdamMoments:
    """Adam's running moments of the gradient, for tensors like the one it is made with."""

    def __init__(self, like: Tensor) -> None:
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like)
        self.steps = 0

    def direction(self, gradient: Tensor) -> Tensor:
        """Adam's direction after one more gradient, scaled to length 1 in the first step."""
        (beta1, beta2), self.steps = ADAM_BETAS, self.steps + 1
        self.first = beta1 * self.first + (1 - beta1) * gradient
        self.second = beta2 * self.second + (1 - beta2) * gradient.square()
        mean, variance = self.first / (1 - beta1**self.steps), self.second / (1 - beta2**self.steps)
        direction: Tensor = mean / (variance.sqrt() + 1e-8) / math.sqrt(gradient.numel())
        return direction
