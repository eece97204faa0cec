"""Strategies on the condition: the paper's objective on the prompt embedding, and other prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.conditions import EMBEDS, Condition, padded_alike, prompt_embeddings
from steerclear.generators.given import NEGATIVE_START
from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.despecify import despecify
from steerclear.nudge.objective import Descent, Objective, descend
from steerclear.nudge.prefer import preferred_text, wished_text

# γ of a condition. At constant length ‖L − L₀‖² = 2 ‖L₀‖² (1 − cos), and U is L₀ itself: push and stay act
# along one line, where only β − 2γ counts. Far above 0 the descent overshoots D and loses the subject, far
# below 0 it never leaves the copy
HOLD = 0.4


@dataclass(frozen=True, kw_only=True)
class ConditionNudge:
    """Minimise J over the prompt embedding, then regenerate from the same noise.

    D is the preferred text's embedding, U the request's own. Costs one plain generation.

    Attributes:
        name: of the strategy.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of staying near.
        iterations: see `descend`.
        rate: see `descend`.
        optimiser: see `descend`.
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
            task,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            iterations=self.iterations,
            rate=self.rate,
            optimiser=self.optimiser,
        )
        if not descents:
            raise UnsupportedError(
                "there is neither a text nor a negative prompt to nudge the given embeddings towards"
            )
        run = task.runner.regenerate(
            condition, task.start, kwargs=task.kwargs, generator=task.torch_generator(seed)
        )
        towards = wished_text(task)
        what = "no prompt" if towards is None else repr(towards)
        return Candidate(run, f"prompt embedding nudged towards {what}", descents)


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """Regenerate under the preferred text, from the same noise."""

    name: str = "rewrite"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        prompt = preferred_text(task)
        run = task.runner.regenerate(
            task.condition(prompt), task.start, kwargs=task.kwargs, generator=task.torch_generator(seed)
        )
        return Candidate(run, f"prompt rewritten to {prompt!r}")


@dataclass(frozen=True, kw_only=True)
class Despecified:
    """Regenerate under the prompt without the words that bring the copy, see `despecify`."""

    name: str = "despecified"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        shortened = despecify(task)
        run = task.runner.regenerate(
            task.condition(shortened.prompt),
            task.start,
            kwargs=task.kwargs,
            generator=task.torch_generator(seed),
        )
        return Candidate(run, f"without {', '.join(map(repr, shortened.dropped))}")


@dataclass(frozen=True, kw_only=True)
class Resample:
    """Regenerate from fresh noise under the nudged condition: the last resort, which can be repeated."""

    name: str = "resample"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        generator = task.torch_generator(seed)
        start = task.runner.fresh_noise(task.start, task.kwargs, generator)
        condition = nudged_condition(task) if task.runner.prompted else task.condition()
        run = task.runner.regenerate(condition, start, kwargs=task.kwargs, generator=generator)
        return Candidate(run, f"new noise from seed {seed}")


def nudged_condition(
    task: SteerTask, *, alpha: float = 1.0, beta: float = 1.0, gamma: float = HOLD
) -> Condition:
    """The condition of `nudged`, without its descents."""
    return nudged(task, alpha=alpha, beta=beta, gamma=gamma)[0]


def nudged(
    task: SteerTask,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = HOLD,
    iterations: int = 40,
    rate: float = 0.05,
    optimiser: str = "descent",
) -> tuple[Condition, tuple[Descent, ...]]:
    """Minimise J over the embeddings of the request's prompt, those of each text encoder on their own.

    D is the preferred text's embedding, U the request's own. Computed once per task and settings. Where the
    caller gave embeddings and no text can pull, D is what they gave for the negative prompt, or else the
    blank prompt; where there is neither, the condition is the request's own, without a descent.

    Args:
        task: the flagged image.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of staying near.
        iterations: see `descend`.
        rate: see `descend`.
        optimiser: see `descend`.

    Returns:
        The nudged condition, and one descent per text encoder.
    """
    text = wished_text(task)
    target = task.condition(text) if text is not None else _blank(task)
    if target is None:
        return task.condition(), ()
    key = f"nudged:{text}:{len(task.unwanted)}:{alpha}:{beta}:{gamma}:{iterations}:{rate}:{optimiser}"
    if key not in task.cache:
        descents = []
        requested, preferred = padded_alike(task.condition(), target)
        condition = {name: _joint_mask(value, preferred.get(name)) for name, value in requested.items()}
        # every text encoder's embedding on its own: they live in different spaces
        preferred_embeds = prompt_embeddings(preferred)
        for name, embeds in prompt_embeddings(requested).items():
            objective = Objective(preferred_embeds[name], embeds, alpha=alpha, beta=beta, gamma=gamma)
            # the push has no gradient at its own starting point, so the first step goes towards D
            descent = descend(objective, embeds, iterations=iterations, rate=rate, optimiser=optimiser)
            condition[name] = descent.latent
            descents.append(descent)
        task.cache[key] = condition, tuple(descents)
    return task.cache[key]  # type: ignore[no-any-return]


def _blank(task: SteerTask) -> Condition | None:
    """The condition of no prompt at all, where the caller gave embeddings; None where it is not known."""
    if task.runner.reads_text:
        return task.condition("")
    blank = {name: task.given.get(NEGATIVE_START + name) for name in task.given}
    if blank.get(EMBEDS) is None:
        return None
    return {**task.given, **{name: value for name, value in blank.items() if value is not None}}


def _joint_mask(requested: Any, preferred: Any) -> Any:
    """A mask that covers the tokens of both prompts; anything else as in the request's own condition."""
    if isinstance(requested, Tensor) and isinstance(preferred, Tensor) and not requested.is_floating_point():
        return torch.maximum(requested, preferred)
    return requested
