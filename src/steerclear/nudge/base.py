"""Step 3 of a request: what a strategy is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from steerclear.generators.conditions import Condition
from steerclear.generators.diffusers import PipelineRunner
from steerclear.generators.given import of_negatives, of_one_length, of_prompts
from steerclear.generators.passes import Pass
from steerclear.nudge.objective import Descent


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

        The request's own are those that the caller gave, if any. Beside every prompt's stand the caller's
        negative ones.
        """
        key = f"condition:{prompt}"
        if key not in self.cache:
            if prompt is None and self.is_given:
                self.cache[key] = {**self._negatives(), **self.given}
            else:
                self.cache[key] = self._encoded(self.prompt if prompt is None else prompt)
        return self.cache[key]  # type: ignore[no-any-return]

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
