"""Strategies on a code, where one evaluation makes an image: the paper's objective on the code, with or without fresh noise."""

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

NEAR = 4  # clear samples that pull at once


@dataclass
class CodeTask:
    """One flagged image of a code, on its way through the ladder.

    code: (1, …) that it was made from; space: E of the objective, None for the code itself; unwanted: (U, …) points of the
    protected items matched so far, in that space; preferred: (D, …) points that pull, the caller's; clear: (R, …) points of
    samples that no filter flags, of which the nearest pull where the caller prefers nothing.
    """

    model: CodeGenerator
    seed: int
    code: Tensor
    space: Callable[[Tensor], Tensor] | None
    unwanted: Tensor
    preferred: Tensor | None = None
    clear: Tensor | None = None
    attempt: int = 0

    def __post_init__(self) -> None:
        self._before = self.model.evaluations

    @property
    def nfe(self) -> float:
        """Evaluations of the module spent on this image since the task began."""
        return float(self.model.evaluations - self._before)

    def point(self, code: Tensor) -> Tensor:
        """E(code), (1, …)."""
        return code if self.space is None else self.space(code)

    def pull(self, code: Tensor) -> Tensor | None:
        """What pulls a code (1, …): the caller's wish, else the nearest clear samples, the next nearest at each attempt."""
        if self.preferred is not None or self.clear is None or not len(self.clear):
            return self.preferred
        order = cosines(self.point(code), self.clear).argsort(descending=True)
        return self.clear[order.roll(-NEAR * self.attempt)[:NEAR]]


@dataclass(frozen=True)
class CodeNudge:
    """Minimise J over the code, then make its image (arXiv 2408.15450, §3, on a code).

    fresh: share of fresh noise, in [0, 1], that the code is turned towards before, at constant length: 0 keeps the request's
    own code, 1 begins anew. Cost: one evaluation; where the space looks at images, about four more an iteration.
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
        origin = task.code
        if self.fresh:
            noise = task.model.noise(1, torch.Generator().manual_seed(seed))
            origin = turned(origin, task.model.code(noise), self.fresh)
        objective = Objective(task.pull(origin), task.unwanted, self.alpha, self.beta, self.gamma, task.space)
        code = minimise(objective, origin, iterations=self.iterations, rate=self.rate)
        (image,) = task.model.pictures(code)
        if image is None:
            raise ArithmeticError("the module made pixels that are not finite")
        moved = float((code - task.code).norm() / task.code.norm().clamp(min=1e-8))
        return Candidate(Pass([image], latents=code), f"moved the code by {moved:.2f} of its length")


def turned(code: Tensor, other: Tensor, share: float) -> Tensor:
    """A code (1, …) turned towards another by `share` of a right angle, its length kept."""
    length, angle = code.norm(), share * math.pi / 2
    aligned = other * (length / other.norm().clamp(min=1e-8))
    mixed: Tensor = math.cos(angle) * code + math.sin(angle) * aligned
    scaled: Tensor = mixed * (length / mixed.norm().clamp(min=1e-8))
    return scaled


# the request's own code first, held less and less; then a neighbour of it; then any code, itself pushed
RUNGS = (
    CodeNudge(),
    CodeNudge("code-far", gamma=0.1, iterations=30),
    CodeNudge("code-turned", gamma=0.1, fresh=0.5),
    CodeNudge("code-turned", gamma=0.1, fresh=0.75),
    CodeNudge("code-fresh", fresh=1.0),
    CodeNudge("code-fresh", fresh=1.0),
    CodeNudge("code-fresh", fresh=1.0),
)


def code_ladder(budget: Budget | None = None) -> Ladder:
    """The default ladder of a CodeGuard. Its budget allows every rung: all of them cost less than one image of a denoiser."""
    return Ladder(RUNGS, budget or Budget(overhead=1000.0))
