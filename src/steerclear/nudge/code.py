"""Strategies on the code of a GAN or a VAE: the paper's objective on it, with or without fresh noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steerclear.generators.code import CodeGenerator
from steerclear.generators.passes import Pass
from steerclear.nudge.base import Candidate
from steerclear.nudge.ladder import Budget, Ladder
from steerclear.nudge.objective import Objective, minimise
from steerclear.pixels import cosines

PULLING_SAMPLES = 4  # clear samples that pull at once


@dataclass(kw_only=True)
class CodeTask:
    """One flagged image of a code, on its way through the ladder.

    Attributes:
        model: makes images of codes.
        seed: of the flagged image.
        code: (1, …) the code that it was made from.
        space: E of the objective, codes (B, …) → points (B, …); None for the code itself.
        unwanted: (U, …) points of the protected items matched so far.
        preferred: (D, …) points of the caller's preferred pictures.
        clear: (R, …) points of samples that no filter flags; where the caller prefers nothing, the nearest
            pull.
        attempt: number of rungs tried so far.
        strategy: name of the rung that is tried.
    """

    model: CodeGenerator
    seed: int
    code: Tensor
    space: Callable[[Tensor], Tensor] | None
    unwanted: Tensor
    preferred: Tensor | None = None
    clear: Tensor | None = None
    attempt: int = 0
    strategy: str = ""

    def __post_init__(self) -> None:
        self._evaluations_before = self.model.evaluations

    @property
    def nfe(self) -> float:
        """Evaluations of the module spent on this image since the task began."""
        return float(self.model.evaluations - self._evaluations_before)

    def point(self, code: Tensor) -> Tensor:
        """E(code), (1, …), of a code (1, …)."""
        return code if self.space is None else self.space(code)

    def pull(self, code: Tensor) -> Tensor | None:
        """The points (D, …) that pull a code (1, …); None for no pull.

        The caller's, else the nearest clear samples, and at each attempt the next nearest ones.
        """
        if self.preferred is not None or self.clear is None or not len(self.clear):
            return self.preferred
        order = cosines(self.point(code), self.clear).argsort(descending=True)
        return self.clear[order.roll(-PULLING_SAMPLES * self.attempt)[:PULLING_SAMPLES]]


@dataclass(frozen=True, kw_only=True)
class CodeNudge:
    """Minimise J over the code, then make its image (arXiv 2408.15450, §3, on a code).

    Costs one evaluation, and about four more per iteration where the space looks at images.

    Attributes:
        name: of the strategy.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of staying near.
        fresh: how far the code is first turned towards a fresh one, at constant length, in [0, 1]: 0 keeps
            the request's own code, 1 begins anew.
        iterations: see `descend`.
        rate: see `descend`.
    """

    name: str = "code"
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 0.5
    fresh: float = 0.0
    iterations: int = 15
    rate: float = 0.15
    acts_on: ClassVar[str] = "code"

    @torch.no_grad()
    def apply(self, task: CodeTask, seed: int) -> Candidate:
        """See `Strategy.apply`."""
        origin = task.code
        if self.fresh:
            noise = task.model.noise(1, torch.Generator().manual_seed(seed))
            origin = turned(origin, task.model.code(noise), self.fresh)
        objective = Objective(
            task.pull(origin),
            task.unwanted,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            space=task.space,
        )
        code = minimise(objective, origin, iterations=self.iterations, rate=self.rate)
        (image,) = task.model.pictures(code)
        if image is None:
            raise ArithmeticError("the module made pixels that are not finite")
        moved = float((code - task.code).norm() / task.code.norm().clamp(min=1e-8))
        return Candidate(Pass(images=[image], latents=code), f"moved the code by {moved:.2f} of its length")


def turned(code: Tensor, other: Tensor, share: float) -> Tensor:
    """A code turned towards another, its length kept.

    Args:
        code: (1, …).
        other: (1, …).
        share: of a right angle, in [0, 1].
    """
    length, angle = code.norm(), share * math.pi / 2
    aligned = other * (length / other.norm().clamp(min=1e-8))
    mixed: Tensor = math.cos(angle) * code + math.sin(angle) * aligned
    scaled: Tensor = mixed * (length / mixed.norm().clamp(min=1e-8))
    return scaled


# first the request's own code, with a falling weight of staying near; then a code near it; then any code
RUNGS = (
    CodeNudge(),
    CodeNudge(name="code-far", gamma=0.1, iterations=30),
    CodeNudge(name="code-turned", gamma=0.1, fresh=0.5),
    CodeNudge(name="code-turned", gamma=0.1, fresh=0.75),
    CodeNudge(name="code-fresh", fresh=1.0),
    CodeNudge(name="code-fresh", fresh=1.0),
    CodeNudge(name="code-fresh", fresh=1.0),
)


def code_ladder(budget: Budget | None = None) -> Ladder:
    """The default ladder of a CodeGuard.

    Args:
        budget: by default one that allows every rung, since all of them cost less than one image of a
            denoiser.
    """
    return Ladder(RUNGS, budget or Budget(overhead=1000.0))
