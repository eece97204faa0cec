"""The interface of strategies: the task that they are given, and the candidate picture that they return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steerclear.generators.conditions import Condition
from steerclear.generators.diffusers import PipelineRunner
from steerclear.generators.given import of_negatives, of_one_length, of_prompts
from steerclear.generators.passes import LeaveEarly, Pass
from steerclear.nudge.objective import Descent
from steerclear.steering import Step

UNGUIDED: dict[str, Any] = {"guidance_scale": 1.0}  # arguments of a call without guidance
Rewriter = Callable[[str, "str | None", tuple[str, ...]], Sequence[str]]
"""(prompt, caption of the matched item, texts whose pictures were flagged) → texts to ask for instead."""


@dataclass(frozen=True)
class OrdinaryPrompts:
    """What calibration has seen of ordinary prompts on one model.

    Attributes:
        similarity: pairs of a guidance scale and the median cosine, over ordinary prompts, of the first
            prediction with the nearest protected latent; by rising scale.
        generic: words in lower case that many prompts or captions share, so that they name no subject.
        clear: those of the prompts whose pictures came out clear.
    """

    similarity: tuple[tuple[float, float], ...] = ()
    generic: frozenset[str] = frozenset()
    clear: tuple[str, ...] = ()

    def similarity_at(self, guidance: float) -> float | None:
        """The median cosine at a guidance scale, interpolated; None where none was measured."""
        if not self.similarity:
            return None
        scales, values = zip(*self.similarity, strict=True)
        return float(np.interp(guidance, scales, values))


class CopyReturned(Exception):  # noqa: N818 - a rung that fails is no error of anybody's
    """A regeneration was stopped because it showed a protected item."""


class Task(Protocol):
    """What the ladder needs of a flagged image, whether a pipeline or a GAN made it.

    Attributes:
        seed: of the flagged image; the seed of each attempt is derived from it.
        attempt: number of rungs tried so far; set by the ladder.
        strategy: name of the rung that is tried; set by the ladder.
    """

    seed: int
    attempt: int
    strategy: str

    @property
    def nfe(self) -> float:
        """Evaluations spent on this image since the task began."""
        ...


@dataclass(kw_only=True)
class SteerTask:
    """One flagged image of a pipeline, on its way through the ladder.

    Attributes:
        runner: runs the pipeline.
        prompt: the request's own; the name of the class for a pipeline that takes class labels; "" where the
            caller gave embeddings and no text.
        seed: of the flagged image.
        kwargs: the caller's other arguments of the pipeline's call.
        given: the embeddings that the caller gave, of the prompt or the negative prompt, a batch of one.
        start: (1, …) the noise that the image was made from.
        clean: (1, …) its final latent, or its last prediction where the first run was left early.
        unwanted: (U, …) latents of the protected items matched so far. It grows with every rung, so that no
            rung moves away from one item into another.
        preferred_texts: the caller's.
        alternatives: texts of what the model draws well. Where the caller prefers nothing, the nearest to the
            prompt pulls.
        captions: of the protected items that were matched, for a prompt that does not name its subject.
        preferred_latents: (D, …) of the caller's preferred pictures.
        passes: whether the guard's filters pass the picture that a clean latent (1, …) shows.
        spaces: E of the objective by its name in `steerclear.nudge.space`, where the guard has an encoder to
            steer by.
        prefer: how D is chosen where the caller prefers nothing: a name in
            `steerclear.nudge.prefer.PREFERENCES`.
        protected: makes the latents (N, …) of all protected items, matched or not; None without a library.
        ordinary: what calibration knows of ordinary prompts on this model.
        shared_words: words in lower case that many captions of the library share.
        rewriter: proposes texts, see `Rewriter`.
        shows: names the protected item that a prediction (1, …) at a step shows, if it is sure; None where
            there is no early verdict for this call.
        first_prediction: (1, …) the flagged run's prediction at its first step, where it is known.
        attempt: number of rungs tried so far, so that the next one can prefer something else.
        strategy: name of the rung that is tried.
        cache: what strategies have computed for this image, by a key of their own.
    """

    runner: PipelineRunner
    prompt: str
    seed: int
    kwargs: dict[str, Any]
    start: Tensor
    clean: Tensor
    unwanted: Tensor
    given: Condition = field(default_factory=dict)
    preferred_texts: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    preferred_latents: Tensor | None = None
    passes: Callable[[Tensor], bool] | None = None
    spaces: Callable[[str], Callable[[Tensor], Tensor]] | None = None
    prefer: str = "text"
    protected: Callable[[], Tensor] | None = None
    ordinary: OrdinaryPrompts | None = None
    shared_words: frozenset[str] = frozenset()
    rewriter: Rewriter | None = None
    shows: Callable[[int, Tensor], str | None] | None = None
    first_prediction: Tensor | None = None
    attempt: int = 0
    strategy: str = ""
    cache: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._evaluations_before = self.runner.evaluations

    @property
    def nfe(self) -> float:
        """Denoiser evaluations spent on this image since the task began, those of failed rungs included."""
        return float(self.runner.evaluations - self._evaluations_before)

    def condition(self, prompt: str | None = None) -> Condition:
        """Text embeddings of a prompt, by default the request's own; each prompt is encoded once.

        Where the caller gave embeddings, these are the request's own. The negative embeddings are always the
        caller's.
        """
        key = f"condition:{prompt}"
        if key not in self.cache:
            if prompt is None and self.is_given:
                self.cache[key] = {**self._negatives(), **self.given}
            else:
                self.cache[key] = self._encoded(self.prompt if prompt is None else prompt)
        return self.cache[key]  # type: ignore[no-any-return]

    def unguided_condition(self, prompt: str) -> Condition:
        """Text embeddings of a prompt for a call without guidance; each prompt is encoded once."""
        key = f"unguided condition:{prompt}"
        if key not in self.cache:
            self.cache[key] = self.runner.encode(prompt, {**self.kwargs, **UNGUIDED})
        return self.cache[key]  # type: ignore[no-any-return]

    def regenerate(self, condition: Condition, start: Tensor | None, generator: torch.Generator) -> Pass:
        """Run the pipeline again under another condition; stop as soon as the copy reappears.

        Args:
            condition: text embeddings.
            start: (1, …) the noise; None to begin with what the pipeline draws.
            generator: for the pipeline's random draws.

        Raises:
            CopyReturned: where a prediction in the first half of the steps shows a protected item.
        """
        returned: str | None = None
        last = int(self.kwargs.get("num_inference_steps", 50)) // 2

        def look(step: Step) -> Tensor | None:
            nonlocal returned
            if self.shows is not None and step.index <= last:
                returned = self.shows(step.index, step.denoised)
                if returned is not None:
                    raise LeaveEarly
            return None

        run = self.runner.regenerate(
            condition, start, kwargs=self.kwargs, generator=generator, on_denoised=look
        )
        if returned is not None:
            raise CopyReturned(f"{returned} came back at step {run.steps}, where the pass was left")
        return run

    @property
    def is_given(self) -> bool:
        """Whether the caller gave embeddings in the place of the prompt."""
        return bool(of_prompts(self.given))

    def _encoded(self, text: str) -> Condition:
        condition = self.runner.encode(text, self.kwargs)
        if not self.given:
            return condition
        return of_one_length(condition, self.given, self.runner.encode("", self.kwargs))

    def _negatives(self) -> Condition:
        """The negative prompt's embeddings where the caller gave none and the pipeline can make them."""
        if of_negatives(self.given) or not self.runner.reads_text:
            return {}
        return of_negatives(self.runner.encode("", self.kwargs))

    def torch_generator(self, seed: int) -> torch.Generator:
        """A new generator for what an attempt draws."""
        return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Candidate:
    """A new picture, not verified yet.

    Attributes:
        run: the run that made it.
        stopped: why the strategy ended, for the report.
        descents: the minimisations that led to it.
    """

    run: Pass
    stopped: str
    descents: tuple[Descent, ...] = ()

    @property
    def image(self) -> Image.Image:
        """The picture itself."""
        return self.run.images[0]


@runtime_checkable
class Strategy(Protocol):
    """One rung of the ladder."""

    @property
    def name(self) -> str:
        """How the command line and reports call it."""
        ...

    def apply(self, task: Any, seed: int) -> Candidate:
        """Make one new picture.

        Args:
            task: a SteerTask from a pipeline's guard, a CodeTask from a CodeGuard.
            seed: of whatever this attempt draws; the same seed makes the same picture.
        """
        ...
