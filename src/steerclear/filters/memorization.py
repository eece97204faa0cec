"""Memorization without a reference: how much the prompt changes what the model predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steerclear.errors import ConfigError
from steerclear.filters.base import detection
from steerclear.types import Detection


@dataclass(frozen=True)
class MemorizationFilter:
    """Flags by the size of ε_c − ε_u, averaged over the first steps (Wen et al., ICLR 2024, eq. 3).

    A memorized prompt pulls the prediction far from the unconditional one, whatever the noise. The paper sums
    the squares; here their mean is taken, so that a threshold does not depend on the size of the picture. It
    does depend on model, scheduler and steps; `steerclear_lab.bench.memorization` draws the curve. No library
    is needed, so nothing is named as matched.

    It needs classifier-free guidance, and a pass that begins with pure noise: without either it cannot judge,
    and flags. A guard refuses a call without guidance before anything is denoised.

    Attributes:
        threshold: flagged from this score on.
        steps: how many scheduler steps are averaged: 1 is the paper's detector at the first step, more its
            trajectory form.
        name: the filter's name.

    Raises:
        ConfigError: for less than one step.
    """

    needs_guidance: ClassVar[bool] = True

    threshold: float
    steps: int = 1
    name: str = "memorization"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"the memorization filter was given {self.steps} steps; it needs at least 1")

    def check_pass(self, magnitudes: list[Tensor], resumed: bool, batch: int) -> list[Detection]:
        """Checks a pass.

        Args:
            magnitudes: per step so far, (B,) root mean square of ε_c − ε_u.
            resumed: whether the pass began at a lower noise level.
            batch: the number of images B.

        Returns:
            One detection per image.
        """
        if resumed:
            return self._unable(
                "the pass began at a lower noise level than the threshold was chosen at", batch
            )
        if len(magnitudes) < self.steps:
            return self._unable(f"the pass was guided in {len(magnitudes)} of {self.steps} steps", batch)
        scores = sum(magnitudes[: self.steps]) / self.steps
        assert isinstance(scores, Tensor)
        return [detection(self, score) for score in scores.tolist()]

    def _unable(self, reason: str, batch: int) -> list[Detection]:
        """A flagged detection per image, where the filter cannot judge."""
        unable = Detection(
            filter=self.name, flagged=True, score=math.nan, threshold=self.threshold, error=reason
        )
        return [unable] * batch
