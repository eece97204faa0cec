"""Methods behind the guard, which verifies every picture withholding what fails; only the ladder differs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from steerclear.nudge import Budget, Candidate, Ladder, SteerTask
from steerclear.nudge.ladder import strategies
from steerclear_lab.bench.baselines.base import Context, MethodOutput

NO_LIMIT = Budget(overhead=math.inf)


@dataclass(frozen=True)
class SteerclearBaseline:
    """The guard with its default ladder."""

    name: ClassVar[str] = "steerclear"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    source: ClassVar[str] = "this library"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        return generate_guarded(context, prompt=prompt, seed=seed, ladder=None)


@dataclass(frozen=True)
class RewriteBaseline:
    """Rewrite the prompt once, to one that the model draws well."""

    name: ClassVar[str] = "rewrite"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    source: ClassVar[str] = "the first rung of this library's ladder, alone"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        return generate_guarded(
            context, prompt=prompt, seed=seed, ladder=Ladder(strategies(("rewrite",)), NO_LIMIT)
        )


@dataclass(frozen=True)
class BlockBaseline:
    """Hand out nothing for a flagged picture: the black square."""

    name: ClassVar[str] = "block"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    source: ClassVar[str] = "the safety checker of Stable Diffusion"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        return generate_guarded(context, prompt=prompt, seed=seed, ladder=Ladder((), NO_LIMIT))


@dataclass(frozen=True)
class ResampleBaseline:
    """Draw the same prompt from other seeds until a picture is clear.

    Attributes:
        budget: most seeds.
    """

    budget: int = 4
    name: ClassVar[str] = "resample"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"budget": (4, 2, 1, 8)}
    source: ClassVar[str] = "rejection sampling"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        ladder = Ladder((NewSeedStrategy(),) * self.budget, NO_LIMIT)
        return generate_guarded(context, prompt=prompt, seed=seed, ladder=ladder)


@dataclass(frozen=True)
class NewSeedStrategy:
    """A strategy of the ladder: other noise under the request's own condition."""

    name: str = "new seed"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """Regenerate from the noise of a seed."""
        generator = task.torch_generator(seed)
        start = torch.randn(task.start.shape, generator=generator).to(task.start)
        passed = task.runner.regenerate(task.condition(), start, kwargs=task.kwargs, generator=generator)
        return Candidate(passed, f"new noise from seed {seed}")


def generate_guarded(context: Context, prompt: str, seed: int, ladder: Ladder | None) -> MethodOutput:
    """What the context's guard hands out.

    Args:
        context: with a guard.
        prompt: of the request.
        seed: of the first picture.
        ladder: replaces the guard's own; None keeps it.
    """
    guard = context.required_guard()
    if ladder is not None:
        guard = copy(guard)  # shares pipe, filters and queue
        guard.ladder = ladder
    generator = torch.Generator().manual_seed(seed)
    out = guard(**context.denoiser.prompt_arguments(prompt), **context.call, generator=generator)
    return MethodOutput(out.images[0], out.reports[0].nfe)
