"""What pulls: the caller's wish, else the nearest of the known alternatives, else the prompt less what was memorized."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from torch import Tensor

from steerclear.nudge.base import SteerTask
from steerclear.nudge.despecify import despecify, predictions
from steerclear.steering import derive

NEARLY = 0.75  # of the best cosine: texts that differ in their style alone should all have their turn
STOP_WORDS = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "her", "his", "in", "is", "its", "of", "on", "or", "that", "the", "their",
     "this", "to", "with")
)  # fmt: skip


def preferred_text(task: SteerTask) -> str:
    """The text towards which this task is pulled.

    The caller's preferred texts come first, the nearest to the prompt where there are several; then the guard's
    alternatives that have a telling word in common with the prompt; then the despecified prompt, which costs a few
    denoiser evaluations; and where that has failed twice, any alternative at all: another picture is better than none.
    Nearly equal texts take turns, by the task's seed, so that seeds stay diverse, and by its attempt, so that no rung
    repeats what has just failed.
    """
    turn = derive(task.seed, "prefer") + task.attempt
    wishes = nearest_texts(task.prompt, task.preferred_texts, must_match=False)
    if wishes:
        return wishes[turn % len(wishes)]
    near = nearest_texts(task.prompt, task.alternatives, must_match=True)
    if task.attempt < len(near):
        return near[turn % len(near)]
    if task.attempt > len(near) + 1 and task.alternatives:
        return task.alternatives[turn % len(task.alternatives)]
    return despecify(task).prompt


def preferred_latents(task: SteerTask) -> Tensor:
    """(D, …): the caller's preferred pictures, else the first prediction under the preferred text (one evaluation)."""
    if task.preferred_latents is not None:
        return task.preferred_latents
    text = preferred_text(task)
    key = f"preview:{text}"
    if key not in task.memory:
        task.memory[key] = predictions(task, [text])
    return task.memory[key]  # type: ignore[no-any-return]


def nearest_texts(prompt: str, texts: Sequence[str], *, must_match: bool) -> list[str]:
    """Those of `texts` with the highest TF-IDF cosine to the prompt: the nearest, and others nearly as near.

    A word counts the more, the fewer texts have it, so "fox" outweighs "style". must_match: return nothing where the
    nearest shares no word that at most a quarter of the texts have; a shared "a" or "style" tells nothing.
    """
    if not texts:
        return []
    weight = _weights(tuple(texts))
    asked = _vector(prompt, weight)
    scores = [
        sum(asked.get(word, 0.0) * value for word, value in _vector(text, weight).items()) for text in texts
    ]
    best = max(scores)
    near = [text for text, score in zip(texts, scores, strict=True) if score >= NEARLY * best]
    telling = {word for word, value in weight.items() if value >= math.log(4) - 1e-9}
    if must_match and not telling & set(_words(near[0])) & set(_words(prompt)):
        return []
    return near


@lru_cache(maxsize=8)
def _weights(texts: tuple[str, ...]) -> dict[str, float]:
    """log(N / n): how much it tells that a text has a word."""
    counts = Counter(word for text in texts for word in set(_words(text)))
    return {word: math.log(len(texts) / n) if len(texts) > 1 else 1.0 for word, n in counts.items()}


def _vector(text: str, weight: dict[str, float]) -> dict[str, float]:
    counts = Counter(_words(text))
    raw = {word: n * weight[word] for word, n in counts.items() if weight.get(word)}
    length = math.sqrt(sum(value * value for value in raw.values())) or 1.0
    return {word: value / length for word, value in raw.items()}


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS]
