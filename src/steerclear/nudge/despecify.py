"""Finding what to prefer, without labels: the prompt less the words that carry the copy.

A memorized picture shows in the very first prediction, so one evaluation per shortened prompt tells which words
bring it: those whose removal takes `denoised` away from the protected latent. What is left of the prompt is the
concept without its memorized particulars, and both its embedding and its first prediction serve as D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.generators.conditions import Condition
from steerclear.generators.limits import takes_several
from steerclear.generators.passes import LeaveEarly
from steerclear.nudge.base import SteerTask
from steerclear.pixels import cosines
from steerclear.steering import Step

ENOUGH = 0.35  # share of the way from the blank prompt's likeness to the full prompt's at which a copy counts as gone
MOST_PARTS = (
    16  # a longer prompt is weighed in groups of neighbouring words, so that the search stays bounded
)
BATCH = 8  # prompts looked at together


@dataclass(frozen=True)
class DespecifiedPrompt:
    """prompt: the words that were kept; dropped: the others."""

    prompt: str
    dropped: tuple[str, ...]


def despecify(task: SteerTask) -> DespecifiedPrompt:
    """Of the prompts without the words that bring the copy, the one that has most left to say.

    Shortened prompts are the prompt less each word, and less the most telling words together. Those whose first
    prediction has left the unwanted latent are weighed by how far it lies from the blank prompt's in directions other
    than the copy's: a prompt that lost its subject predicts little. Found once per set of unwanted latents; costs about
    two evaluations per word and at most 2 · MOST_PARTS + 1, without guidance, on the task's own noise.
    """
    key = f"despecified:{len(task.unwanted)}"
    if key not in task.memory:
        task.memory[key] = _search(task)
    return task.memory[key]  # type: ignore[no-any-return]


def predictions(task: SteerTask, prompts: list[str]) -> Tensor:
    """The first `denoised` (N, …) under each prompt, without guidance, on the task's own noise: N evaluations."""
    return torch.cat([_batch(task, prompts[i : i + BATCH]) for i in range(0, len(prompts), BATCH)])


def _search(task: SteerTask) -> DespecifiedPrompt:
    parts = _parts(task.prompt)
    everything = set(range(len(parts)))
    singles = [everything - {i} for i in everything]
    seen = predictions(task, [task.prompt, "", *(_join(parts, kept) for kept in singles)])
    likeness = _likeness(task, seen)
    full, blank = float(likeness[0]), float(likeness[1])
    order = [int(i) for i in likeness[2:].argsort()]  # the part whose loss hurts the copy most comes first
    several = [everything - set(order[:k]) for k in range(2, len(parts))]
    more = predictions(task, [_join(parts, kept) for kept in several]) if several else seen[:0]
    candidates, looks = singles + several, torch.cat([seen[2:], more])
    alike = _likeness(task, looks)
    left = _left_to_say(task, looks, seen[1:2])
    limit = blank + ENOUGH * max(0.0, full - blank)
    free = [i for i in range(len(candidates)) if float(alike[i]) <= limit]
    chosen = max(free, key=lambda i: float(left[i])) if free else int(alike.argmin())
    kept = candidates[chosen]
    return DespecifiedPrompt(_join(parts, kept), tuple(parts[i] for i in sorted(everything - kept)))


def _likeness(task: SteerTask, seen: Tensor) -> Tensor:
    """Cosine (N,) of each prediction with the nearest unwanted latent."""
    return torch.stack([cosines(row[None], task.unwanted).max() for row in seen])


def _left_to_say(task: SteerTask, seen: Tensor, blank: Tensor) -> Tensor:
    """Length (N,) of each prediction's difference from the blank prompt's, less its part in the copy's direction."""
    copy = (task.unwanted.to(blank).mean(0, keepdim=True) - blank).flatten()
    copy = copy / copy.norm().clamp(min=1e-8)
    said = (seen - blank).flatten(1)
    length: Tensor = (said - (said @ copy)[:, None] * copy).norm(dim=1)
    return length


def _join(parts: list[str], kept: set[int]) -> str:
    return " ".join(parts[i] for i in sorted(kept))


def _parts(prompt: str) -> list[str]:
    """The prompt's words, or at most MOST_PARTS groups of neighbouring ones."""
    words = prompt.split()
    size = -(-len(words) // MOST_PARTS)
    return [" ".join(words[i : i + size]) for i in range(0, len(words), size)]


def _batch(task: SteerTask, prompts: list[str]) -> Tensor:
    unguided = {**task.kwargs, "guidance_scale": 1.0}
    conditions = [task.runner.encode(p, unguided) for p in prompts]
    alike = takes_several(task.runner.pipe) and all(_shapes(c) == _shapes(conditions[0]) for c in conditions)
    if not alike and len(prompts) > 1:
        return torch.cat([_batch(task, [p]) for p in prompts])
    batch: Condition = {name: _stacked([c[name] for c in conditions]) for name in conditions[0]}

    def leave(step: Step) -> Tensor | None:
        raise LeaveEarly

    start = task.start.expand(len(prompts), *task.start.shape[1:]).contiguous()
    seen = task.runner.regenerate(batch, start, unguided, task.torch_generator(task.seed), leave)
    assert seen.denoised is not None
    return seen.denoised


def _shapes(condition: Condition) -> list[Any]:
    return [value.shape if isinstance(value, Tensor) else None for value in condition.values()]


def _stacked(values: list[Any]) -> Any:
    """A batch of the same argument of several conditions."""
    return torch.cat(values) if isinstance(values[0], Tensor) else [one for value in values for one in value]
