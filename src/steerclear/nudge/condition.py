"""Strategies on the condition: the paper's objective on the prompt embedding, and other prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.conditions import (
    EMBEDS,
    Condition,
    can_be_nudged,
    padded_alike,
    prompt_embeddings,
)
from steerclear.generators.given import NEGATIVE_START
from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.despecify import despecify
from steerclear.nudge.objective import Descent, Objective, descend
from steerclear.nudge.prefer import preferred_text, wished_text
from steerclear.nudge.screen import SAFE, condition_risk

HOLD = 0.5  # γ of a condition: the minimum of J then is D itself, see `weights_at`


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
        """See `Strategy.apply`."""
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
        run = task.regenerate(condition, task.start, task.torch_generator(seed))
        towards = wished_text(task)
        what = "no prompt" if towards is None else repr(towards)
        return Candidate(run, f"prompt embedding nudged towards {what}", descents)


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """Regenerate under the preferred text, from the same noise."""

    name: str = "rewrite"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """See `Strategy.apply`."""
        prompt = preferred_text(task)
        run = task.regenerate(task.condition(prompt), task.start, task.torch_generator(seed))
        return Candidate(run, f"prompt rewritten to {prompt!r}")


@dataclass(frozen=True, kw_only=True)
class Interpolate:
    """Regenerate under a point on the line from the request's embedding to the preferred text's.

    The minimum of J lies on this line, see `weights_at`, so no descent is needed. The strategy takes the
    first point, counted from the request, whose first prediction is safe: it keeps as much of the request as
    possible.

    Attributes:
        name: of the strategy.
        points: shares t of the way from the request (0) to the preferred text (1), tried in turn at one
            evaluation each; the last is taken without a look. Beyond 1 lies what is even farther from the
            request.
        safe: risk up to which a point is taken, see `steerclear.nudge.screen`.
    """

    name: str = "interpolate"
    points: tuple[float, ...] = (0.6, 0.8, 1.0)
    safe: float = SAFE

    @classmethod
    def beyond(cls) -> Interpolate:
        """The strategy `extrapolate`: points beyond the preferred text, for prompts whose preferred text
        still shows the copy.
        """
        return cls(name="extrapolate", points=(1.3, 1.6, 2.0))

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """See `Strategy.apply`."""
        text = preferred_text(task)
        for t in self.points[:-1]:
            prompt, target = task.unguided_condition(task.prompt), task.unguided_condition(text)
            if condition_risk(task, interpolated(prompt, target, t)) <= self.safe:
                break
        else:
            t = self.points[-1]
        condition = interpolated(task.condition(), task.condition(text), t)
        run = task.regenerate(condition, task.start, task.torch_generator(seed))
        return Candidate(run, f"prompt embedding {t:.0%} of the way to {text!r}")


@dataclass(frozen=True, kw_only=True)
class Despecified:
    """Regenerate under the prompt without the words that bring the copy, see `despecify`."""

    name: str = "despecified"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """See `Strategy.apply`."""
        shortened = despecify(task)
        run = task.regenerate(task.condition(shortened.prompt), task.start, task.torch_generator(seed))
        return Candidate(run, f"without {', '.join(map(repr, shortened.dropped))}")


@dataclass(frozen=True, kw_only=True)
class Resample:
    """Regenerate from fresh noise under the nudged condition: the last resort, which can be repeated.

    Where a prompt's embeddings cannot be nudged, it regenerates under the preferred text.
    """

    name: str = "resample"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """See `Strategy.apply`."""
        generator = task.torch_generator(seed)
        start = task.runner.fresh_noise(task.start, task.kwargs, generator)
        run = task.regenerate(_steered_condition(task), start, generator)
        return Candidate(run, f"new noise from seed {seed}")


def _steered_condition(task: SteerTask) -> Condition:
    """The nudged condition; where a prompt's embeddings are not known, the text that would pull it.

    Where the caller gave such embeddings and no text can pull, it is the condition that they gave.
    """
    condition = task.condition()
    if not task.runner.prompted:
        return condition
    if can_be_nudged(condition):
        return nudged_condition(task)
    text = wished_text(task)
    return condition if text is None else task.condition(text)


def interpolated(requested: Condition, preferred: Condition, t: float) -> Condition:
    """Interpolate two conditions, in the space of each text encoder.

    Lengths are interpolated too: the direction is that of (1 − t) · u / ‖u‖ + t · d / ‖d‖, for u requested
    and d preferred.

    Args:
        requested: text embeddings, at t = 0.
        preferred: text embeddings, at t = 1.
        t: share of the way; may lie beyond 1.

    Returns:
        Text embeddings.
    """
    first, second = padded_alike(requested, preferred)
    condition = {name: _joint_mask(value, second[name]) for name, value in first.items()}
    ends = prompt_embeddings(second)
    for name, u in prompt_embeddings(first).items():
        d = ends[name]
        lengths = u.float().norm().clamp(min=1e-8), d.float().norm().clamp(min=1e-8)
        line = (1 - t) * u.float() / lengths[0] + t * d.float() / lengths[1]
        length = ((1 - t) * lengths[0] + t * lengths[1]).clamp(min=min(lengths))
        condition[name] = (line * (length / line.norm().clamp(min=1e-8))).to(u)
    return condition


def weights_at(t: float, *, alpha: float = 1.0, beta: float = 1.0) -> float:
    """The γ with which J over a condition has its minimum at a share t of the way to D.

    At constant length the distance is a cosine as well, ‖L − L₀‖² = 2 ‖L₀‖² (1 − cos), and U is L₀ itself. So
    J = −α cos(L, d) + (β − 2γ) cos(L, u) + const, which is least along α d − (β − 2γ) u. That points at
    (1 − t) u + t d for β − 2γ = −α (1 − t) / t.

    Args:
        t: above 0; beyond 1 the minimum lies past D.
        alpha: weight of the pull.
        beta: weight of the push.
    """
    return (beta + alpha * (1 - t) / t) / 2


def nudged_condition(
    task: SteerTask, *, alpha: float = 1.0, beta: float = 1.0, gamma: float = HOLD
) -> Condition:
    """Minimise J over the embeddings of the request's prompt, see `nudged`.

    Args:
        task: the flagged image.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of staying near.

    Returns:
        The nudged condition.
    """
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
    if not isinstance(requested, Tensor) or not isinstance(preferred, Tensor):
        return requested
    # a given negative prompt's may be longer in one of both conditions
    alike = not requested.is_floating_point() and requested.shape == preferred.shape
    return torch.maximum(requested, preferred) if alike else requested
