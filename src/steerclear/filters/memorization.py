"""Memorization without a reference: how much more the prompt says to the model than no prompt does."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from steerclear.errors import ConfigError
from steerclear.types import Detection


@dataclass(frozen=True)
class MemorizationFilter:
    """Root mean square of ε_c − ε_u, averaged over the first steps (Wen et al., ICLR 2024, eq. 3).

    A memorized prompt pulls the prediction far from the unconditional one whatever the noise. steps: how many scheduler
    steps are averaged; 1 is the detector at the first step, more its trajectory form. The paper sums squares, here their
    mean is taken, so that a threshold does not depend on the size of the picture; it does on model, scheduler and steps:
    `steerclear_lab.bench.memorization` draws the curve. No library is needed, so nothing is named as matched.

    It needs classifier-free guidance, and a pass from pure noise: without either it cannot see, and flags.
    """

    threshold: float
    steps: int = 1
    name: str = "memorization"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"the memorization filter was given {self.steps} steps; it needs at least 1")

    def check_pass(self, magnitudes: list[Tensor], resumed: bool, batch: int) -> list[Detection]:
        """magnitudes: of each step so far, (B,), see `Pass`; resumed: whether the pass began at a lower noise level.

        One detection per image.
        """
        if resumed:
            return self._blind(
                "the pass began at a lower noise level than the threshold was chosen at", batch
            )
        if len(magnitudes) < self.steps:
            return self._blind(f"the pass was guided in {len(magnitudes)} of {self.steps} steps", batch)
        scores = sum(magnitudes[: self.steps]) / self.steps
        assert isinstance(scores, Tensor)
        return [Detection(self.name, s >= self.threshold, s, self.threshold) for s in scores.tolist()]

    def _blind(self, why: str, batch: int) -> list[Detection]:
        return [Detection(self.name, True, math.nan, self.threshold, error=why)] * batch
