"""Choosing the pull target D automatically, by one of several rules, where the caller gives none."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.errors import UnsupportedError
from steerclear.generators.conditions import pooled_embedding
from steerclear.nudge.base import SteerTask
from steerclear.nudge.despecify import BATCH, despecify, predictions
from steerclear.nudge.nearest_texts import nearest_texts
from steerclear.nudge.screen import HOPELESS, SAFE, Screened, ordered, screened
from steerclear.nudge.space import PREVIEW
from steerclear.nudge.subject import MOST_TEXTS, names_subject, subject_texts
from steerclear.pixels import cosines
from steerclear.steering import derive

PULLING_PICTURES = 4  # of a larger set, so many pictures pull at once: the mean of all would be no picture
LONGEST_TEXT = 4000  # characters; as long as a prompt may be
REWRITES = 2  # how often a rewriter is asked about one image
ANY_CLASSES = 8  # classes that are tried where none is known to be similar
SAMPLES = 2  # pictures that the guard generates to be pulled by


@dataclass(frozen=True, kw_only=True)
class Preference:
    """A rule for choosing D where the caller gives no preferred text.

    Attributes:
        text: the text whose embedding pulls a prompt embedding.
        latents: the latents (D, …) that pull a latent, where the caller gives no preferred pictures either.
        among: of the latents (N, …) of the caller's preferred pictures, those (D, …) that pull.
    """

    text: Callable[[SteerTask], str]
    latents: Callable[[SteerTask], Tensor]
    among: Callable[[SteerTask, Tensor], Tensor]


def preferred_text(task: SteerTask) -> str:
    """The text that pulls: of the caller's the nearest to the prompt, else the choice of `task.prefer`.

    Nearly equal texts take turns: by the task's seed, so that seeds give different pictures, and by its
    attempt, so that no rung repeats the text that has just failed.

    Raises:
        UnsupportedError: where the caller gave embeddings, and there is no text encoder, or nothing to choose
            from and no prompt to shorten.
    """
    if task.runner.prompted and not task.runner.reads_text:
        raise UnsupportedError("another text needs a text encoder, and this pipeline has none in memory")
    nearest = nearest_texts(task.prompt, task.preferred_texts, must_match=False)
    return nearest[_turn(task) % len(nearest)] if nearest else PREFERENCES[task.prefer].text(task)


def wished_text(task: SteerTask) -> str | None:
    """The text that pulls; None where the caller gave embeddings and there is no text to pull with."""
    if not task.is_given:
        return preferred_text(task)
    try:
        return preferred_text(task)
    except UnsupportedError:
        return None


def preferred_latents(task: SteerTask) -> Tensor | None:
    """The latents (D, …) that pull: some of the caller's pictures, else the choice of `task.prefer`.

    None where nothing can pull, since the caller gave embeddings in the place of a prompt.
    """
    preference, pictures = PREFERENCES[task.prefer], task.preferred_latents
    if pictures is not None:
        without_words = task.is_given and not (task.prompt and task.runner.reads_text)
        among = nearest_to_flagged if without_words else preference.among
        return _cached(task, "preferred pictures", lambda: among(task, pictures))
    if task.is_given and wished_text(task) is None:
        return None
    return _cached(task, f"preferred:{preferred_text(task)}", lambda: preference.latents(task))


def nearest_text(task: SteerTask) -> str:
    """The next of `target_texts`, after each rung that failed; from the start again once all were tried."""
    if "texts" not in task.cache:
        task.cache["texts"] = list[str]()
        task.cache["further texts"] = target_texts(task, task.cache["texts"])
    texts: list[str] = task.cache["texts"]
    while task.attempt >= len(texts):
        text = next(task.cache["further texts"], None)
        if text is None:
            break
        if text not in texts:
            texts.append(text)
    return texts[task.attempt % len(texts)] if texts else despecify(task).prompt


def target_texts(task: SteerTask, tried: Sequence[str]) -> Iterator[str]:
    """The texts to be drawn instead of a flagged prompt, the likeliest to pass and to please first.

    First come the rewriter's. Then the guard's alternatives that share a telling word with the prompt, in
    turn; where none does, those that share one with the captions of the matched items ("the acme mascot"
    does not say that it is a fox). Then the request's own subject. Then the other alternatives, the most
    similar by the pipeline's own text encoder first; for a pipeline without prompts any alternative.

    Args:
        task: the flagged image.
        tried: what was taken from here so far; all of it has failed when the next text is asked for.
    """
    yield from rewritten_texts(task, tried)
    by_words = (
        nearest_texts(text, task.alternatives, must_match=True) for text in (task.prompt, *task.captions)
    )
    nearest = next(filter(None, by_words), [])
    turn = _turn(task)
    yield from (nearest[(turn + i) % len(nearest)] for i in range(len(nearest)))
    if task.runner.prompted:
        yield from own_subject(task)
    yield from sorted_by_text_encoder(task, task.alternatives)
    if not task.runner.prompted and task.alternatives:
        # a class has no words to drop, and another class is better than none
        yield from (task.alternatives[(turn + i) % len(task.alternatives)] for i in range(ANY_CLASSES))


def rewritten_texts(task: SteerTask, tried: Sequence[str]) -> Iterator[str]:
    """Ask the rewriter for texts, and keep those that pass screening.

    Once all its texts have failed, it is asked again, REWRITES times in all.

    Args:
        task: the flagged image.
        tried: texts that have failed; it may grow while this iterates.

    Yields:
        The texts, the safe ones first.
    """
    for _ in range(REWRITES if task.rewriter is not None else 0):
        passing = [row.text for row in _proposed(task, tried) if row.risk < HOPELESS]
        yield from passing
        if not passing:
            return


def _proposed(task: SteerTask, tried: Sequence[str]) -> list[Screened]:
    """What the rewriter proposes beside what was tried; nothing where it fails, and a warning."""
    assert task.rewriter is not None
    try:
        proposed = task.rewriter(task.prompt, next(iter(task.captions), None), tuple(tried))
        proposed = [proposed] if isinstance(proposed, str) else list(proposed)
        if not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in proposed):
            raise TypeError(f"it gave what is no text of at most {LONGEST_TEXT} characters")
    except Exception as error:  # a server that does not answer must not cost the request
        warnings.warn(f"the rewriter failed: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)
        return []
    texts = [text for text in dict.fromkeys(proposed) if text.strip() and text not in (task.prompt, *tried)]
    rows = screened(task, texts[:MOST_TEXTS]) if texts else []
    return sorted(rows, key=lambda row: row.risk > SAFE)


def own_subject(task: SteerTask) -> Iterator[str]:
    """The request's own subject in other words, see `subject_texts`, by predicted risk.

    Where the prompt names no subject, it is that of the matched items' captions.
    """
    usual = task.ordinary.generic if task.ordinary else frozenset[str]()
    generic = usual | task.shared_words
    for source in (task.prompt, *task.captions):
        if names_subject(source, generic, usual):
            yield from ordered(screened(task, subject_texts(source, generic, usual)))
            return
    # words that no list knows are better than nothing, but not than what the model is known to draw
    texts = [] if task.alternatives else subject_texts(task.prompt, generic, usual)
    yield from ordered(screened(task, texts)) if texts else ()


def despecified_prompt(task: SteerTask) -> str:
    """The prompt without the words that bring the copy."""
    return despecify(task).prompt


def alternative_to_despecified(task: SteerTask) -> str:
    """The alternative that is nearest to the despecified prompt; that prompt itself where none is near."""
    prompt = despecify(task).prompt
    nearest = nearest_texts(prompt, task.alternatives, must_match=True)
    return nearest[_turn(task) % len(nearest)] if nearest else prompt


def first_prediction(task: SteerTask) -> Tensor:
    """The first prediction (1, …) under the preferred text; it costs one evaluation."""
    return predictions(task, [preferred_text(task)])


def nearest_to_despecified(task: SteerTask, latents: Tensor) -> Tensor:
    """Select the latents that are most similar to the despecified prompt's first prediction.

    Args:
        task: the flagged image.
        latents: (N, …) to choose from.

    Returns:
        (D, …) the few most similar.
    """
    if len(latents) <= PULLING_PICTURES:
        return latents
    return _nearest(predictions(task, [despecify(task).prompt]), latents)


def nearest_to_flagged(task: SteerTask, latents: Tensor) -> Tensor:
    """Select the latents that are most similar to the flagged picture, by the guard's encoder if it has one.

    Args:
        task: the flagged image.
        latents: (N, …) to choose from.

    Returns:
        (D, …) the few most similar.
    """
    if len(latents) <= PULLING_PICTURES:
        return latents
    if task.spaces is None:
        return _nearest(task.clean, latents)
    E = task.spaces(PREVIEW)  # decoding each picture would take far longer than generating one
    with torch.no_grad():
        points = torch.cat([E(latents[i : i + BATCH]) for i in range(0, len(latents), BATCH)])
        return latents[cosines(E(task.clean), points).topk(PULLING_PICTURES).indices]


def clear_samples(task: SteerTask) -> Tensor:
    """Latents (D, …) of clear pictures of the preferred text, generated for this purpose from fresh noise.

    SAMPLES pictures are generated, each at the cost of a plain one, and those that the guard's filters pass
    are kept. Where none passes, it is the first prediction under that text.
    """
    condition, clear = task.condition(preferred_text(task)), []
    for i in range(SAMPLES):
        generator = task.torch_generator(derive(task.seed, "sample", i))
        start = task.runner.fresh_noise(task.start, task.kwargs, generator)
        run = task.runner.regenerate(condition, start, kwargs=task.kwargs, generator=generator)
        if run.latents is None or not all(run.finite):
            continue
        if task.passes is None or task.passes(run.latents):
            clear.append(run.latents)
    return torch.cat(clear) if clear else first_prediction(task)


PREFERENCES: dict[str, Preference] = {
    "text": Preference(text=nearest_text, latents=first_prediction, among=nearest_to_despecified),
    "despecified": Preference(
        text=despecified_prompt, latents=first_prediction, among=nearest_to_despecified
    ),
    "neighbours": Preference(
        text=alternative_to_despecified, latents=first_prediction, among=nearest_to_despecified
    ),
    "samples": Preference(text=despecified_prompt, latents=clear_samples, among=nearest_to_despecified),
    "lookalikes": Preference(text=despecified_prompt, latents=first_prediction, among=nearest_to_flagged),
}
"""The rules by the names that `Guard(…, prefer=…)` takes."""


def sorted_by_text_encoder(task: SteerTask, texts: Sequence[str]) -> list[str]:
    """Sort texts by similarity to the task's prompt, by the pipeline's own text encoder.

    The mean of the texts' embeddings is subtracted first, since it is common to all texts.

    Args:
        task: the flagged image.
        texts: to sort.

    Returns:
        All texts, the most similar first; none where the encoder's embeddings are not known.
    """
    vectors = task.runner.pooled_embeddings(tuple(texts), task.kwargs) if texts else None
    prompt = pooled_embedding(task.condition()) if vectors is not None else None
    if vectors is None or prompt is None:
        return []
    mean = vectors.mean(0) if len(vectors) > 1 else torch.zeros_like(prompt)
    similarity = F.cosine_similarity(vectors - mean, prompt - mean, dim=-1)
    return [texts[i] for i in similarity.argsort(descending=True).tolist()]


def _turn(task: SteerTask) -> int:
    """Which of several equally good choices is taken, counted round."""
    return derive(task.seed, "prefer") + task.attempt


def _cached(task: SteerTask, key: str, make: Callable[[], Tensor]) -> Tensor:
    """What `make` returned for this key the first time."""
    if key not in task.cache:
        task.cache[key] = make()
    return task.cache[key]  # type: ignore[no-any-return]


def _nearest(latent: Tensor, others: Tensor) -> Tensor:
    """The PULLING_PICTURES rows of `others` (N, …) with the highest cosine to a latent (1, …)."""
    return others[cosines(latent, others).topk(PULLING_PICTURES).indices]
