"""The early verdict: most copies show in the first predictions, and a doomed pass need not be finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from steerclear.nudge.objective import cosines
from steerclear.types import Detection


@dataclass(frozen=True)
class EarlyVerdict:
    """Cosine of `denoised` at one early step with the nearest protected latent.

    ids and latents (N, …): the protected items, encoded by the pipeline's own autoencoder; step: index of the step at
    which it looks; threshold: calibrated so that no ordinary image reaches it. A positive verdict ends the pass early; a
    negative one means nothing, since the finished image is always checked.
    scheduler, steps, guidance: what the threshold was calibrated under; it stays silent under anything else.
    """

    ids: tuple[str, ...]
    latents: Tensor
    threshold: float
    step: int
    scheduler: str
    steps: int
    guidance: float
    name: str = "early"

    def applies(self, scheduler: Any, kwargs: dict[str, Any]) -> bool:
        """Whether this call runs under the settings that the threshold was calibrated for."""
        custom = any(
            kwargs.get(name) is not None
            for name in ("timesteps", "sigmas", "guidance_rescale", "negative_prompt")
        )
        settings = (type(scheduler).__name__, kwargs.get("num_inference_steps"), kwargs.get("guidance_scale"))
        return not custom and settings == (self.scheduler, self.steps, self.guidance)

    def look(self, denoised: Tensor) -> list[Detection]:
        """`check`, or nothing where the latents are of another shape or cannot be compared: no verdict is a fine one."""
        if not self.ids or denoised.shape[1:] != self.latents.shape[1:]:
            return []
        return self.check(denoised)

    def check(self, denoised: Tensor) -> list[Detection]:
        """denoised: (B, …) clean latents as predicted. One detection per row."""
        out = []
        for row in denoised:
            likeness = cosines(row[None], self.latents)
            best = int(likeness.argmax())
            score = float(likeness[best])
            out.append(Detection(self.name, score >= self.threshold, score, self.threshold, self.ids[best]))
        return out
