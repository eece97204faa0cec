"""The early verdict: most copies are visible in the first predictions, so that such a pass need not be
finished.

It ends a pass only under the settings and at the sizes in which its threshold was tested. Elsewhere it marks
the image as suspect, and the finished picture must pass the strict filters too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.filters.base import detection
from steerclear.pixels import cosines
from steerclear.types import Detection

STRIDE = 4  # windows begin at every quarter of their side


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
        """Whether a call lies within these settings.

        Args:
            scheduler: the pipeline's scheduler.
            steps: number of inference steps.
            guidance: guidance scale.
        """
        return (
            type(scheduler).__name__ in self.schedulers
            and getattr(scheduler.config, "timestep_spacing", None) == self.spacing
            and self.steps[0] <= steps <= self.steps[1]
            and self.guidance[0] <= guidance <= self.guidance[1]
        )


@dataclass(frozen=True)
class EarlyVerdict:
    """Compares `denoised` at one early step with the protected latents, by cosine.

    A flagged image ends the pass early where `applies` allows it; anywhere else it is suspect. An image that
    is not flagged may still be a copy: the finished image is always checked.

    Attributes:
        ids: the N protected items.
        latents: (N, …), the items encoded by the pipeline's own autoencoder.
        threshold: calibrated so that no ordinary image reaches it.
        step: index of the step at which `denoised` is compared.
        settings: where the threshold raised no false alarm; under any other settings no pass ends early.
        name: the name in detections.
    """

    ids: tuple[str, ...]
    latents: Tensor
    threshold: float
    step: int
    settings: Settings
    name: str = "early"

    def applies(self, scheduler: Any, kwargs: dict[str, Any], denoised: Tensor) -> bool:
        """Returns whether a call runs under the settings, and at the size, that the threshold was tried in.

        Args:
            scheduler: the pipeline's scheduler.
            kwargs: the arguments of the pipeline's call.
            denoised: (B, …), the predicted clean latents.
        """
        changed_sampling = any(
            kwargs.get(name) is not None
            for name in ("timesteps", "sigmas", "guidance_rescale", "negative_prompt")
        )
        steps, guidance = kwargs.get("num_inference_steps"), kwargs.get("guidance_scale")
        return (
            not changed_sampling
            and denoised.shape[1:] == self.latents.shape[1:]
            and steps is not None
            and guidance is not None
            and self.settings.hold(scheduler, steps, guidance)
        )

    def sees(self, denoised: Tensor) -> bool:
        """Returns whether there are protected latents that can be compared with latents (B, …) like these."""
        shape = self.latents.shape[1:]
        images = len(shape) == 3 and denoised.ndim == 4 and denoised.shape[1] == shape[0]
        return bool(self.ids) and (images or denoised.shape[1:] == shape)

    def check(self, denoised: Tensor) -> list[Detection]:
        """Compares predicted clean latents with the protected ones, whole and in windows of their size.

        Args:
            denoised: (B, …), of any size that it `sees`.

        Returns:
            One detection per latent.
        """
        return [self._nearest(row[None]) for row in denoised]

    def _nearest(self, denoised: Tensor) -> Detection:
        """The detection of one latent (1, …)."""
        views = denoised
        if denoised.shape[1:] != self.latents.shape[1:]:
            views = _windows(denoised, self.latents.shape[-2:])
        similarities = torch.stack([cosines(view[None], self.latents) for view in views]).amax(0)
        best = int(similarities.argmax())
        return detection(self, float(similarities[best]), self.ids[best])


def _windows(latent: Tensor, size: Sequence[int]) -> Tensor:
    """A latent (1, C, H, W) resized to a size, and its windows of that size: (n, C, h, w)."""
    height, width = size
    views = [F.interpolate(latent.float(), (height, width), mode="bilinear", antialias=True).to(latent)]
    tops, lefts = (_starts(*pair) for pair in zip(latent.shape[-2:], size, strict=True))
    views += [latent[..., y : y + height, x : x + width] for y in tops for x in lefts]
    return torch.cat(views)


def _starts(length: int, window: int) -> list[int]:
    """Where windows begin along a side; nowhere if the side is shorter."""
    if length < window:
        return []
    return sorted({*range(0, length - window + 1, max(1, window // STRIDE)), length - window})
