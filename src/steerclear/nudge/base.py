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
from steerclear.generators.passes import Pass
from steerclear.nudge.objective import Descent


class Task(Protocol):
    """What the ladder itself knows of a flagged image, whatever makes images."""

    seed: int
    attempt: int

    @property
    def nfe(self) -> float: ...


@dataclass
class SteerTask:
    """One flagged image on its way through the ladder.

    start: (1, …) the noise that it was made from; clean: (1, …) its final latent, or the last prediction where
    the first pass was left early; unwanted: (U, …) latents of the protected items matched so far, growing with
    every rung so that no rung flees from one item into another; preferred_*: the caller's wishes; alternatives:
    texts of what the model draws well, of which the nearest to the prompt pulls where the caller names none; captions: of the
    protected items that were matched, for a prompt that does not say what it asks for; passes: whether
    the guard's filters would let pass what a clean latent shows; spaces: E of the objective by its name in `nudge.space`,
    where the guard has an encoder to steer by; prefer: how D is chosen, a name in `nudge.prefer`; attempt: how many rungs have
    been tried, so that the next one may prefer something else.
    """

    runner: PipelineRunner
    prompt: str
    seed: int
    kwargs: dict[str, Any]
    start: Tensor
    clean: Tensor
    unwanted: Tensor
    preferred_texts: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    preferred_latents: Tensor | None = None
    passes: Callable[[Tensor], bool] | None = None
    spaces: Callable[[str], Callable[[Tensor], Tensor]] | None = None
    prefer: str = "text"
    attempt: int = 0
    memory: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._before = self.runner.evaluations

    @property
    def nfe(self) -> float:
        """Denoiser evaluations spent on this image since the task began, those of a rung that failed included."""
        return float(self.runner.evaluations - self._before)

    def condition(self, prompt: str | None = None) -> Condition:
        """Text embeddings of the request's own prompt, or of another one; encoded once."""
        key = f"condition:{self.prompt if prompt is None else prompt}"
        if key not in self.memory:
            self.memory[key] = self.runner.encode(self.prompt if prompt is None else prompt, self.kwargs)
        return self.memory[key]  # type: ignore[no-any-return]

    def torch_generator(self, seed: int) -> torch.Generator:
        """For whatever an attempt draws."""
        return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Candidate:
    """A new picture, not yet verified.

    run: the pass that made it; stopped: why the strategy ended, for the report; descents: the minimisations that led there.
    """

    run: Pass
    stopped: str
    descents: tuple[Descent, ...] = ()

    @property
    def image(self) -> Image.Image:
        return self.run.images[0]


@runtime_checkable
class Strategy(Protocol):
    """One rung of the ladder."""

    @property
    def name(self) -> str: ...

    def apply(self, task: Any, seed: int) -> Candidate:
        """Make one new picture.

        task: a SteerTask from a pipeline's guard, a CodeTask from a CodeGuard; seed: for whatever this attempt draws; the
        same seed makes the same picture.
        """
        ...
