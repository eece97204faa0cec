"""Nudity and the like: NudeNet's detector, and Stable Diffusion's safety checker with its scores kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from steerclear.encoders.embedded import CLIP_MEAN, CLIP_STD
from steerclear.errors import ConfigError
from steerclear.filters.base import detection
from steerclear.pixels import fit
from steerclear.types import Detection

EXPOSED = (
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_EXPOSED",
    "BUTTOCKS_EXPOSED",
)


@dataclass(frozen=True)
class NudityFilter:
    """Flags by NudeNet's detector, whose network is part of its package. Needs the extra `nsfw`.

    The score is the highest confidence of a detected label, 0 where it detects none. The network knows
    photographs of a few hundred pixels: in drawings of 64 × 64 it sees what is not there, with scores up to
    0.6.

    Attributes:
        labels: which of the detector's labels count.
        threshold: flagged from this confidence on.
        name: the filter's name.
    """

    labels: tuple[str, ...] = EXPOSED
    threshold: float = 0.4
    name: str = "nudity"

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1]."""
        if not bool(images.isfinite().all()):
            raise ValueError("an image holds values that are not finite")
        # the detector expects what OpenCV reads: bytes in the order blue, green, red
        pixels = (images.float().clamp(0, 1) * 255).round().byte().flip(1).permute(0, 2, 3, 1)
        detections = []
        for image in pixels.contiguous().cpu().numpy():
            boxes = [
                (box["score"], box["class"])
                for box in _detector().detect(image)
                if box["class"] in self.labels
            ]
            score, label = max(boxes, default=(0.0, None))
            detections.append(detection(self, score, label))
        return detections


@cache
def _detector() -> Any:
    try:
        from nudenet import NudeDetector
    except ModuleNotFoundError as error:
        raise ConfigError("the nudity filter needs nudenet; run: pip install 'steerclear[nsfw]'") from error
    return NudeDetector()


@dataclass(frozen=True)
class SafetyCheckerFilter:
    """Flags by diffusers' StableDiffusionSafetyChecker, with a score and without blackening pictures.

    The verdict is the checker's own. The score is the largest margin by which an image's embedding passes a
    concept's own threshold. The checker rounds margins to three digits and flags what is above 0.

    Attributes:
        checker: the pipeline's `safety_checker`. Take it out of the pipeline (`safety_checker=None`): there
            it would blacken pictures before any filter sees them.
        threshold: flagged from this margin on.
        name: the filter's name.
    """

    checker: Any
    threshold: float = 0.0005
    name: str = "safety-checker"

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1]."""
        pixels = (fit(images, self.checker.config.vision_config.image_size) - CLIP_MEAN) / CLIP_STD
        pooled = self.checker.vision_model(pixels.to(self.checker.visual_projection.weight))[1]
        embedding = F.normalize(self.checker.visual_projection(pooled).float(), dim=-1)

        def margins(concepts: Tensor, thresholds: Tensor) -> Tensor:
            return embedding @ F.normalize(concepts.float(), dim=-1).T - thresholds.float()

        special = margins(self.checker.special_care_embeds, self.checker.special_care_embeds_weights)
        # pictures that resemble a special-care concept are held to a slightly lower threshold
        adjustment = 0.01 * (special > self.threshold).any(dim=1).float()
        scores = (
            margins(self.checker.concept_embeds, self.checker.concept_embeds_weights).amax(1) + adjustment
        )
        return [detection(self, score) for score in scores.tolist()]
