"""Which of several texts are nearest to a prompt, by the words that they share (TF-IDF)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from steerclear.nudge.words import MEDIUM_WORDS

NEARLY_BEST = 0.75  # share of the best cosine: texts that differ in their style alone all count as nearest
STOP_WORDS = frozenset(
    "a an and at by for from her his in is its of on or that the their this to with".split()
)
SHORTEST_STEM = 5  # letters of a word that also counts inside a longer one, as "camera" in "cameraman"


def nearest_texts(prompt: str, texts: Sequence[str], *, must_match: bool) -> list[str]:
    """The texts with the highest TF-IDF cosine to the prompt: the best one, and others nearly as good.

    The fewer texts have a word, the more it counts, so "fox" outweighs "style".

    Args:
        prompt: what is asked for.
        texts: the candidates; all of them together give the words their weights.
        must_match: return nothing unless the best text shares a telling word with the prompt. A word is
            telling if at most an eighth of the texts have it, or at most two of them: "a" or "style" is not.
            Texts nearly as good as the best must share the same telling words: a red saucer is no red heart.

    Returns:
        Some of the texts, in their order.
    """
    if not texts:
        return []
    weights = _weights(tuple(texts))
    query = _vector(" ".join(_known_form(word, weights) for word in _words(prompt)), weights)
    scores = [
        sum(query.get(word, 0.0) * value for word, value in _vector(text, weights).items()) for text in texts
    ]
    least_weight = math.log(min(8, max(1, len(texts) / 2))) - 1e-9
    telling = {word for word in query if weights[word] >= least_weight}
    shared = [telling & set(_words(text)) for text in texts]
    best = max(range(len(texts)), key=scores.__getitem__)
    if must_match and not shared[best]:
        return []
    return [
        text
        for text, score, words in zip(texts, scores, shared, strict=True)
        if score >= NEARLY_BEST * scores[best] and words == shared[best]
    ]


@lru_cache(maxsize=8)
def _weights(texts: tuple[str, ...]) -> dict[str, float]:
    """log(N / n) of each word that n of N texts have."""
    counts = Counter(word for text in texts for word in set(_words(text)))
    return {word: math.log(len(texts) / n) if len(texts) > 1 else 1.0 for word, n in counts.items()}


def _known_form(word: str, weights: dict[str, float]) -> str:
    """The form in which the texts have a word: itself, its singular or its beginning; else itself."""
    if word in weights:
        return word
    singulars = [word.removesuffix(end) for end in ("s", "es") if word.endswith(end)]
    stems = [word[:n] for n in range(len(word) - 1, SHORTEST_STEM - 1, -1)]
    return next((form for form in (*singulars, *stems) if form in weights), word)


def _vector(text: str, weights: dict[str, float]) -> dict[str, float]:
    """The text's TF-IDF vector, of unit length."""
    counts = Counter(_words(text))
    raw = {word: n * weights[word] for word, n in counts.items() if weights.get(word)}
    length = math.sqrt(sum(value * value for value in raw.values())) or 1.0
    return {word: value / length for word, value in raw.items()}


def _words(text: str) -> list[str]:
    """The words of a text, lower-case, without stop words and words for a medium."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS | MEDIUM_WORDS]
