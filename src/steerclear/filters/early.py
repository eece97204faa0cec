"""The early verdict: most copies show in the first predictions, and a doomed pass need not be finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from steerclear.pixels import cosines
from steerclear.types import Detection


@dataclass(frozen=True)
class Settings:
    """Ranges, both ends included, in which a threshold was tried: schedulers by class name, all with one spacing of their
    timesteps."""

    schedulers: tuple[str, ...]
    steps: tuple[int, int]
    guidance: tuple[float, float]
    spacing: str | None = None

    def hold(self, scheduler: Any, steps: int, guidance: float) -> bool:
        return (
            type(scheduler).__name__ in self.schedulers
            and getattr(scheduler.config, "timestep_spacing", None) == self.spacing
            and self.steps[0] <= steps <= self.steps[1]
            and self.guidance[0] <= guidance <= self.guidance[1]
        )


@dataclass(frozen=True)
class EarlyVerdict:
    """Cosine of `denoised` at one early step with the nearest protected latent.

    ids and latents (N, …): the protected items, encoded by the pipeline's own autoencoder; step: index of the step at
    which it looks; threshold: calibrated so that no ordinary image reaches it. A positive verdict ends the pass early; a
    negative one means nothing, since the finished image is always checked.
    settings: where the threshold was found to raise no false alarm; it stays silent anywhere else.
    """

    ids: tuple[str, ...]
    latents: Tensor
    threshold: float
    step: int
    settings: Settings
    name: str = "early"

    def applies(self, scheduler: Any, kwargs: dict[str, Any]) -> bool:
        """Whether this call runs under settings that the threshold is known to hold for."""
        custom = any(
            kwargs.get(name) is not None
            for name in ("timesteps", "sigmas", "guidance_rescale", "negative_prompt")
        )
        steps, guidance = kwargs.get("num_inference_steps"), kwargs.get("guidance_scale")
        return (
            not custom
            and steps is not None
            and guidance is not None
            and self.settings.hold(scheduler, steps, guidance)
        )

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
