"""Choosing what to prefer without labels: the prompt without the words that bring the copy.

A memorized picture shows in the very first prediction. One evaluation per shortened prompt therefore tells
which words bring it: those whose removal takes `denoised` away from the protected latent. The remaining
prompt names the concept without its memorized particulars; its embedding and its first prediction both serve
as D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.conditions import Condition
from steerclear.generators.limits import takes_several
from steerclear.generators.passes import LeaveEarly
from steerclear.nudge.base import UNGUIDED, SteerTask
from steerclear.pixels import cosines
from steerclear.steering import Step

# a copy counts as gone below this share of the way from the blank prompt's similarity to the full prompt's
COPY_GONE = 0.35
MAX_PARTS = 16  # a longer prompt is searched in groups of neighbouring words, which bounds the cost
BATCH = 8  # prompts predicted together


@dataclass(frozen=True)
class DespecifiedPrompt:
    """A prompt without the words that bring the copy.

    Attributes:
        prompt: the words that were kept.
        dropped: the others.
    """

    prompt: str
    dropped: tuple[str, ...]


def despecify(task: SteerTask) -> DespecifiedPrompt:
    """Shorten a prompt until its first prediction shows no copy, and keep as much of its content as possible.

    The shortened prompts are the prompt without each word, and without the several words that bring the copy
    most. Of those whose first prediction has left the unwanted latents, the one with the most content is
    chosen. Content is how far the prediction lies from the blank prompt's, in directions other than the
    copy's. A prompt that lost its subject has little.

    Searched once per set of unwanted latents, without guidance, on the task's own noise. Costs about two
    evaluations per word, and at most 2 · MAX_PARTS + 1.

    Raises:
        UnsupportedError: where the caller gave embeddings and no text.
    """
    if not task.prompt:
        raise UnsupportedError("no text was given beside the embeddings: there are no words to leave out")
    key = f"despecified:{len(task.unwanted)}"
    if key not in task.cache:
        task.cache[key] = _search(task)
    return task.cache[key]  # type: ignore[no-any-return]


def predictions(task: SteerTask, prompts: list[str]) -> Tensor:
    """Predict `denoised` at the first step under several prompts, without guidance, on the task's own noise.

    Costs N evaluations.

    Args:
        task: the flagged image.
        prompts: N prompts.

    Returns:
        (N, …).
    """
    return condition_predictions(task, [task.unguided_condition(prompt) for prompt in prompts])


def condition_predictions(task: SteerTask, conditions: list[Condition]) -> Tensor:
    """Predict `denoised` at the first step under several conditions, see `predictions`.

    Args:
        task: the flagged image.
        conditions: N conditions that were encoded without guidance.

    Returns:
        (N, …).
    """
    batches = [conditions[i : i + BATCH] for i in range(0, len(conditions), BATCH)]
    return torch.cat([_predict(task, batch) for batch in batches])


def _search(task: SteerTask) -> DespecifiedPrompt:
    """The search that `despecify` describes; a shortened prompt is the set of the parts that it keeps."""
    parts = _parts(task.prompt)
    all_parts = set(range(len(parts)))
    one_dropped = [all_parts - {i} for i in all_parts]
    denoised = predictions(task, [task.prompt, "", *(_join(parts, kept) for kept in one_dropped)])
    similarity = _similarity(task, denoised)
    full, blank = float(similarity[0]), float(similarity[1])
    # the part whose removal hurts the copy most comes first
    by_effect = [int(i) for i in similarity[2:].argsort()]
    several_dropped = [all_parts - set(by_effect[:k]) for k in range(2, len(parts))]
    shortened, shortened_denoised = one_dropped + several_dropped, denoised[2:]
    if several_dropped:
        more = predictions(task, [_join(parts, kept) for kept in several_dropped])
        shortened_denoised = torch.cat([shortened_denoised, more])
    similarity = _similarity(task, shortened_denoised)
    content = _content(task, shortened_denoised, blank=denoised[1:2])
    limit = blank + COPY_GONE * max(0.0, full - blank)
    without_copy = [i for i in range(len(shortened)) if float(similarity[i]) <= limit]
    best = max(without_copy, key=lambda i: float(content[i])) if without_copy else int(similarity.argmin())
    kept = shortened[best]
    return DespecifiedPrompt(_join(parts, kept), tuple(parts[i] for i in sorted(all_parts - kept)))


def _similarity(task: SteerTask, denoised: Tensor) -> Tensor:
    """Cosine (N,) of each prediction with the nearest unwanted latent."""
    return torch.stack([cosines(row[None], task.unwanted).max() for row in denoised])


def _content(task: SteerTask, denoised: Tensor, *, blank: Tensor) -> Tensor:
    """Length (N,) of each prediction's difference from the blank prompt's, without the copy's direction."""
    copy = (task.unwanted.to(blank).mean(0, keepdim=True) - blank).flatten()
    copy = copy / copy.norm().clamp(min=1e-8)
    difference = (denoised - blank).flatten(1)
    length: Tensor = (difference - (difference @ copy)[:, None] * copy).norm(dim=1)
    return length


def _join(parts: list[str], kept: set[int]) -> str:
    """The kept parts as a prompt, in their order."""
    return " ".join(parts[i] for i in sorted(kept))


def _parts(prompt: str) -> list[str]:
    """The prompt's words, or at most MAX_PARTS groups of neighbouring ones."""
    words = prompt.split()
    size = -(-len(words) // MAX_PARTS)
    return [" ".join(words[i : i + size]) for i in range(0, len(words), size)]


def _predict(task: SteerTask, conditions: list[Condition]) -> Tensor:
    """`condition_predictions` of one batch; one by one where the pipeline cannot take them together."""
    same_shapes = all(_shapes(condition) == _shapes(conditions[0]) for condition in conditions)
    if len(conditions) > 1 and not (takes_several(task.runner.pipe) and same_shapes):
        return torch.cat([_predict(task, [condition]) for condition in conditions])
    batch: Condition = {name: _batched([c[name] for c in conditions]) for name in conditions[0]}

    def leave(step: Step) -> Tensor | None:
        raise LeaveEarly

    run = task.runner.regenerate(
        batch,
        task.start.expand(len(conditions), *task.start.shape[1:]).contiguous(),
        kwargs={**task.kwargs, **UNGUIDED},
        generator=task.torch_generator(task.seed),
        on_denoised=leave,
        eager=True,
    )
    assert run.denoised is not None
    return run.denoised


def _shapes(condition: Condition) -> list[Any]:
    """The shapes of a condition's tensors."""
    return [value.shape if isinstance(value, Tensor) else None for value in condition.values()]


def _batched(values: list[Any]) -> Any:
    """The same argument of several conditions, as one batch."""
    return torch.cat(values) if isinstance(values[0], Tensor) else [row for value in values for row in value]
