"""Methods behind the guard: it looks, it verifies, and what does not pass is withheld. They differ in the ladder alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from steerclear.nudge import Budget, Candidate, Ladder, SteerTask
from steerclear.nudge.ladder import strategies
from steerclear_lab.bench.baselines.base import Context, Made

NO_LIMIT = Budget(overhead=math.inf)


@dataclass(frozen=True)
class Steerclear:
    """The guard with its default ladder, as it is."""

    name: ClassVar[str] = "steerclear"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    source: ClassVar[str] = "this library"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        return behind_guard(context, prompt, seed, None)


@dataclass(frozen=True)
class Rewrite:
    """The prompt rewritten to what the model draws well, once."""

    name: ClassVar[str] = "rewrite"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    source: ClassVar[str] = "the first rung of this library's ladder, alone"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        return behind_guard(context, prompt, seed, Ladder(strategies(("rewrite",)), NO_LIMIT))


@dataclass(frozen=True)
class Block:
    """Nothing is handed out for a flagged picture: the black square."""

    name: ClassVar[str] = "block"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    source: ClassVar[str] = "the safety checker of Stable Diffusion"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        return behind_guard(context, prompt, seed, Ladder((), NO_LIMIT))


@dataclass(frozen=True)
class Resample:
    """Other seeds under the same prompt, until one is clear or `budget` are spent."""

    budget: int = 4
    name: ClassVar[str] = "resample"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"budget": (4, 2, 1, 8)}
    source: ClassVar[str] = "rejection sampling"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        return behind_guard(context, prompt, seed, Ladder((NewSeed(),) * self.budget, NO_LIMIT))


@dataclass(frozen=True)
class NewSeed:
    """A rung: fresh noise under the request's own condition."""

    name: str = "new seed"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        noise = task.torch_generator(seed)
        start = torch.randn(task.start.shape, generator=noise).to(task.start)
        made = task.runner.regenerate(task.condition(), start, kwargs=task.kwargs, generator=noise)
        return Candidate(made, f"new noise from seed {seed}")


def behind_guard(context: Context, prompt: str, seed: int, ladder: Ladder | None) -> Made:
    """What the context's guard hands out under another ladder, or its own."""
    guard = context.flagging()
    if ladder is not None:
        guard = copy(guard)  # shares pipe, filters and queue
        guard.ladder = ladder
    out = guard(
        **context.denoiser.asked(prompt), **context.call, generator=torch.Generator().manual_seed(seed)
    )
    return Made(out.images[0], out.reports[0].nfe)
