"""Strategies on the condition: the paper's objective on the prompt embedding, and the plain shortened prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.generators.conditions import Condition, matched, positive
from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.despecify import despecify
from steerclear.nudge.objective import Descent, Objective, descend
from steerclear.nudge.prefer import preferred_text

# γ of a condition. At constant length ‖L − L₀‖² = 2 ‖L₀‖² (1 − cos), and U is L₀: push and stay pull along one line, where
# only β − 2γ counts. Much above 0 the descent overshoots D and loses what was asked for, much below it never leaves the copy
HOLD = 0.4


@dataclass(frozen=True)
class ConditionNudge:
    """Minimise J over the prompt embedding: pull to the preferred text, push from the request's own prompt.

    Regenerates from the same noise. Costs no denoiser evaluations beyond one plain generation.
    """

    name: str = "condition"
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = HOLD
    iterations: int = 40
    rate: float = 0.05
    optimiser: str = "descent"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        condition, descents = nudged(
            task, self.alpha, self.beta, self.gamma, self.iterations, self.rate, self.optimiser
        )
        made = task.runner.regenerate(condition, task.start, task.kwargs, task.torch_generator(seed))
        return Candidate(made, f"prompt embedding nudged towards {preferred_text(task)!r}", descents)


@dataclass(frozen=True)
class Rewrite:
    """The preferred text itself, from the same noise."""

    name: str = "rewrite"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        prompt = preferred_text(task)
        made = task.runner.regenerate(
            task.condition(prompt), task.start, task.kwargs, task.torch_generator(seed)
        )
        return Candidate(made, f"prompt rewritten to {prompt!r}")


@dataclass(frozen=True)
class Despecified:
    """The request's own prompt without the words that bring the copy, from the same noise; see `despecify`."""

    name: str = "despecified"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        found = despecify(task)
        made = task.runner.regenerate(
            task.condition(found.prompt), task.start, task.kwargs, task.torch_generator(seed)
        )
        return Candidate(made, f"without {', '.join(map(repr, found.dropped))}")


@dataclass(frozen=True)
class Resample:
    """Fresh noise under the nudged condition: the last resort, and one that can be repeated."""

    name: str = "resample"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        noise = task.torch_generator(seed)
        start = task.runner.fresh(task.start, task.kwargs, noise)
        condition = nudged_condition(task) if task.runner.prompted else task.condition()
        made = task.runner.regenerate(condition, start, task.kwargs, noise)
        return Candidate(made, f"new noise from seed {seed}")


def nudged_condition(
    task: SteerTask, alpha: float = 1.0, beta: float = 1.0, gamma: float = HOLD
) -> Condition:
    """The condition of `nudged`."""
    return nudged(task, alpha, beta, gamma)[0]


def nudged(
    task: SteerTask, alpha: float = 1.0, beta: float = 1.0, gamma: float = HOLD, iterations: int = 40, rate: float = 0.05,
    optimiser: str = "descent",
) -> tuple[Condition, tuple[Descent, ...]]:  # fmt: skip
    """The request's text embeddings, each encoder's, after minimising J on them, and how that went. D: the preferred text's."""
    text = preferred_text(task)
    key = f"nudged:{text}:{len(task.unwanted)}:{alpha}:{beta}:{gamma}:{iterations}:{rate}:{optimiser}"
    if key not in task.memory:
        descents = []
        own, preferred = matched(task.condition(), task.condition(text))
        condition = {name: _either(value, preferred[name]) for name, value in own.items()}
        # every text encoder's embedding on its own: they live in different spaces
        wanted = positive(preferred)
        for name, embeds in positive(own).items():
            objective = Objective(wanted[name], embeds, alpha, beta, gamma)
            # J is flat in the push at its own starting point, so the descent begins on the pull's side
            went = descend(objective, embeds, iterations=iterations, rate=rate, optimiser=optimiser)
            condition[name] = went.latent
            descents.append(went)
        task.memory[key] = condition, tuple(descents)
    return task.memory[key]  # type: ignore[no-any-return]


def _either(own: Any, preferred: Any) -> Any:
    """A mask covers the words of both prompts; whatever else there is stays the request's own."""
    if isinstance(own, Tensor) and not own.is_floating_point():
        return torch.maximum(own, preferred)
    return own
