"""The early verdict: most copies show in the first predictions, and a doomed pass need not be finished."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from steerclear.nudge.objective import cosines
from steerclear.types import Detection


@dataclass(frozen=True)
class EarlyVerdict:
    """Cosine of `denoised` at one early step with the nearest protected latent.

    ids and latents (N, …): the protected items, encoded by the pipeline's own autoencoder; at: the share of the
    steps after which it looks; threshold: calibrated so that no ordinary image reaches it. A positive verdict
    ends the pass early; a negative one means nothing, since the finished image is always checked.
    """

    ids: tuple[str, ...]
    latents: Tensor
    threshold: float
    at: float = 0.0
    name: str = "early"

    def step(self, steps: int) -> int:
        """Index of the step at which to look."""
        return min(steps - 1, round(self.at * steps))

    def check(self, denoised: Tensor) -> list[Detection]:
        """denoised: (B, …) clean latents as predicted. One detection per row."""
        out = []
        for row in denoised:
            likeness = cosines(row[None], self.latents)
            best = int(likeness.argmax())
            score = float(likeness[best])
            out.append(Detection(self.name, score >= self.threshold, score, self.threshold, self.ids[best]))
        return out
