"""What pulls: the caller's wish, else what one of several ways finds without labels."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.generators.conditions import meaning
from steerclear.nudge.base import SteerTask
from steerclear.nudge.despecify import BATCH, despecify, predictions
from steerclear.nudge.space import PREVIEW
from steerclear.pixels import cosines
from steerclear.steering import derive

NEIGHBOURS = 4  # preferred pictures that pull at once, of a larger set
SAMPLES = 2  # clear pictures that the guard makes for itself to be pulled by

NEARLY = 0.75  # of the best cosine: texts that differ in their style alone should all have their turn
STOP_WORDS = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "her", "his", "in", "is", "its", "of", "on", "or", "that", "the", "their",
     "this", "to", "with")
)  # fmt: skip
# how a picture is made, not what is in it: a photograph of something else is no stand-in
MEDIUM_WORDS = frozenset(
    ("drawing", "icon", "illustration", "image", "painting", "photo", "photograph", "picture", "portrait", "render", "sketch")
)  # fmt: skip
COMPOUND = 5  # letters of a word that counts where a longer one begins with it, as the camera in a cameraman


def preferred_text(task: SteerTask) -> str:
    """The text towards which this task is pulled: the caller's, the nearest to the prompt of several, else as `task.prefer` says.

    Nearly equal texts take turns, by the task's seed, so that seeds stay diverse, and by its attempt, so that no rung
    repeats what has just failed.
    """
    wishes = nearest_texts(task.prompt, task.preferred_texts, must_match=False)
    return wishes[_turn(task) % len(wishes)] if wishes else PREFERENCES[task.prefer].text(task)


def preferred_latents(task: SteerTask) -> Tensor:
    """(D, …): of the caller's preferred pictures those that are nearest, else as `task.prefer` says."""
    way, wished = PREFERENCES[task.prefer], task.preferred_latents
    if wished is not None:
        return _once(task, "wished", lambda: way.among(task, wished))
    return _once(task, f"preferred:{preferred_text(task)}", lambda: way.latents(task))


@dataclass(frozen=True)
class Preference:
    """How D is chosen without labels. text: what pulls an embedding; latents: (D, …), what pulls a latent; among: (D, …) of the
    latents (N, …) of preferred pictures, where the caller gives these."""

    text: Callable[[SteerTask], str]
    latents: Callable[[SteerTask], Tensor]
    among: Callable[[SteerTask, Tensor], Tensor]


def alternative(task: SteerTask) -> str:
    """Of the guard's alternatives those nearest by a telling word, in turn: to the prompt, else to a matched item's caption, since
    "the acme mascot" does not say that it is a fox. For a rung after these have failed, and where no word tells, the others,
    beginning with what the pipeline's own text encoder takes for the most alike. Where there are none, or the encoder is not
    known, the despecified prompt, which costs a few denoiser evaluations; where there are no words, any alternative."""
    told = (nearest_texts(text, task.alternatives, must_match=True) for text in (task.prompt, *task.captions))
    near = next(filter(None, told), [])
    if task.attempt < len(near):
        return near[_turn(task) % len(near)]
    if kin := [text for text in kindred(task, task.alternatives) if text not in near]:
        return kin[(task.attempt - len(near)) % len(kin)]
    if not task.runner.prompted and task.alternatives:
        # a class has no words to drop, and another one is better than none
        return task.alternatives[_turn(task) % len(task.alternatives)]
    return despecify(task).prompt


def despecified(task: SteerTask) -> str:
    """The prompt less the words that bring the copy."""
    return despecify(task).prompt


def neighbour(task: SteerTask) -> str:
    """Of the guard's alternatives the nearest to the despecified prompt, else that prompt itself."""
    prompt = despecify(task).prompt
    near = nearest_texts(prompt, task.alternatives, must_match=True)
    return near[_turn(task) % len(near)] if near else prompt


def predicted(task: SteerTask) -> Tensor:
    """(1, …): the first prediction under the preferred text, one evaluation."""
    return predictions(task, [preferred_text(task)])


def neighbours(task: SteerTask, latents: Tensor) -> Tensor:
    """(NEIGHBOURS, …) of latents (N, …): the nearest to the despecified prompt's first prediction, fewer where there are fewer.

    The mean of all of a large set would pull towards no picture at all.
    """
    if len(latents) <= NEIGHBOURS:
        return latents
    (seen,) = predictions(task, [despecify(task).prompt])[:, None]
    return _nearest(seen, latents)


def lookalikes(task: SteerTask, latents: Tensor) -> Tensor:
    """(NEIGHBOURS, …) of latents (N, …): the nearest to the flagged picture itself, by the guard's encoder where it has one."""
    if len(latents) <= NEIGHBOURS:
        return latents
    if task.spaces is None:
        return _nearest(task.clean, latents)
    E = task.spaces(PREVIEW)  # a decode of each would take many times the picture's own time
    with torch.no_grad():
        points = torch.cat([E(latents[i : i + BATCH]) for i in range(0, len(latents), BATCH)])
        return latents[cosines(E(task.clean), points).topk(NEIGHBOURS).indices]


def clear_samples(task: SteerTask) -> Tensor:
    """(D, …): those of SAMPLES pictures of the preferred text, from fresh noise, that the guard's filters pass.

    Each costs a plain generation. Where none passes, the first prediction under that text.
    """
    condition, found = task.condition(preferred_text(task)), []
    for i in range(SAMPLES):
        noise = task.torch_generator(derive(task.seed, "sample", i))
        start = task.runner.fresh(task.start, task.kwargs, noise)
        made = task.runner.regenerate(condition, start, task.kwargs, noise)
        if (
            made.latents is not None
            and all(made.finite)
            and (task.passes is None or task.passes(made.latents))
        ):
            found.append(made.latents)
    return torch.cat(found) if found else predicted(task)


PREFERENCES: dict[str, Preference] = {
    "text": Preference(alternative, predicted, neighbours),
    "despecified": Preference(despecified, predicted, neighbours),
    "neighbours": Preference(neighbour, predicted, neighbours),
    "samples": Preference(despecified, clear_samples, neighbours),
    "lookalikes": Preference(despecified, predicted, lookalikes),
}


def _turn(task: SteerTask) -> int:
    return derive(task.seed, "prefer") + task.attempt


def _once(task: SteerTask, key: str, make: Callable[[], Tensor]) -> Tensor:
    if key not in task.memory:
        task.memory[key] = make()
    return task.memory[key]  # type: ignore[no-any-return]


def _nearest(latent: Tensor, others: Tensor) -> Tensor:
    return others[cosines(latent, others).topk(NEIGHBOURS).indices]


def nearest_texts(prompt: str, texts: Sequence[str], *, must_match: bool) -> list[str]:
    """Those of `texts` with the highest TF-IDF cosine to the prompt: the nearest, and others nearly as near.

    A word counts the more, the fewer texts have it, so "fox" outweighs "style". must_match: return nothing where the
    nearest shares no telling word: one that at most an eighth of the texts have, or two. A shared "a" or "style" tells
    nothing, and those as near as the nearest must share the same: a red saucer is no red heart.
    """
    if not texts:
        return []
    weight = _weights(tuple(texts))
    asked = _vector(" ".join(_known(word, weight) for word in _words(prompt)), weight)
    scores = [
        sum(asked.get(word, 0.0) * value for word, value in _vector(text, weight).items()) for text in texts
    ]
    few = math.log(min(8, max(1, len(texts) / 2))) - 1e-9
    telling = {word for word in asked if weight[word] >= few}
    shared = [telling & set(_words(text)) for text in texts]
    best = max(range(len(texts)), key=scores.__getitem__)
    if must_match and not shared[best]:
        return []
    return [
        text
        for text, score, words in zip(texts, scores, shared, strict=True)
        if score >= NEARLY * scores[best] and words == shared[best]
    ]


def kindred(task: SteerTask, texts: Sequence[str]) -> list[str]:
    """`texts`, the most alike to the task's prompt by the pipeline's text encoder first; none where its embeddings are not known.

    What all texts have in common, the mean of their embeddings, is left out, since it tells nothing.
    """
    known = task.runner.meanings(tuple(texts), task.kwargs) if texts else None
    asked = meaning(task.condition()) if known is not None else None
    if known is None or asked is None:
        return []
    common = known.mean(0) if len(known) > 1 else torch.zeros_like(asked)
    likeness = F.cosine_similarity(known - common, asked - common, dim=-1)
    return [texts[i] for i in likeness.argsort(descending=True).tolist()]


@lru_cache(maxsize=8)
def _weights(texts: tuple[str, ...]) -> dict[str, float]:
    """log(N / n): how much it tells that a text has a word."""
    counts = Counter(word for text in texts for word in set(_words(text)))
    return {word: math.log(len(texts) / n) if len(texts) > 1 else 1.0 for word, n in counts.items()}


def _known(word: str, weight: dict[str, float]) -> str:
    """The word as the texts have it: itself, what it is the plural of, or what a longer one begins with; else itself."""
    if word in weight:
        return word
    singular = [word.removesuffix(end) for end in ("s", "es") if word.endswith(end)]
    begun = [word[:n] for n in range(len(word) - 1, COMPOUND - 1, -1)]
    return next((known for known in (*singular, *begun) if known in weight), word)


def _vector(text: str, weight: dict[str, float]) -> dict[str, float]:
    counts = Counter(_words(text))
    raw = {word: n * weight[word] for word, n in counts.items() if weight.get(word)}
    length = math.sqrt(sum(value * value for value in raw.values())) or 1.0
    return {word: value / length for word, value in raw.items()}


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS | MEDIUM_WORDS]
