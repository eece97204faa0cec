"""The early verdict: most copies show in the first predictions, and such a pass need not be finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from steerclear.filters.base import detection
from steerclear.pixels import cosines
from steerclear.types import Detection


@dataclass(frozen=True)
class Settings:
    """The sampling settings in which an early threshold was tried; ranges include both ends.

    Attributes:
        schedulers: class names.
        steps: least and most inference steps.
        guidance: lowest and highest guidance scale.
        spacing: the schedulers' `timestep_spacing`.
    """

    schedulers: tuple[str, ...]
    steps: tuple[int, int]
    guidance: tuple[float, float]
    spacing: str | None = None

    def hold(self, scheduler: Any, steps: int, guidance: float) -> bool:
        """Returns whether a call with this scheduler, step count and guidance scale lies within them."""
        return (
            type(scheduler).__name__ in self.schedulers
            and getattr(scheduler.config, "timestep_spacing", None) == self.spacing
            and self.steps[0] <= steps <= self.steps[1]
            and self.guidance[0] <= guidance <= self.guidance[1]
        )


@dataclass(frozen=True)
class EarlyVerdict:
    """Compares `denoised` at one early step with the protected latents, by cosine.

    A flagged image ends the pass early. An image that is not flagged may still be a copy: the finished image
    is always checked.

    Attributes:
        ids: the N protected items.
        latents: (N, …), the items encoded by the pipeline's own autoencoder.
        threshold: calibrated so that no ordinary image reaches it.
        step: index of the step at which `denoised` is compared.
        settings: where the threshold raised no false alarm; under any other settings the verdict is not used.
        name: the name in detections.
    """

    ids: tuple[str, ...]
    latents: Tensor
    threshold: float
    step: int
    settings: Settings
    name: str = "early"

    def applies(self, scheduler: Any, kwargs: dict[str, Any]) -> bool:
        """Returns whether a call runs under the settings that the threshold was tried in.

        Args:
            scheduler: the pipeline's scheduler.
            kwargs: the arguments of the pipeline's call.
        """
        changed_sampling = any(
            kwargs.get(name) is not None
            for name in ("timesteps", "sigmas", "guidance_rescale", "negative_prompt")
        )
        steps, guidance = kwargs.get("num_inference_steps"), kwargs.get("guidance_scale")
        return (
            not changed_sampling
            and steps is not None
            and guidance is not None
            and self.settings.hold(scheduler, steps, guidance)
        )

    def look(self, denoised: Tensor) -> list[Detection]:
        """Returns what `check` does; nothing where no protected latent has this shape, which is no danger."""
        if not self.ids or denoised.shape[1:] != self.latents.shape[1:]:
            return []
        return self.check(denoised)

    def check(self, denoised: Tensor) -> list[Detection]:
        """Returns one detection per predicted clean latent (B, …)."""
        detections = []
        for row in denoised:
            similarities = cosines(row[None], self.latents)
            best = int(similarities.argmax())
            detections.append(detection(self, float(similarities[best]), self.ids[best]))
        return detections
