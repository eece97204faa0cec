"""Nudity and the like: NudeNet's detector, and Stable Diffusion's safety checker with its scores kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from steerclear.encoders.embedded import CLIP_MEAN, CLIP_STD
from steerclear.errors import ConfigError
from steerclear.pixels import fit
from steerclear.types import Detection

EXPOSED = (
    "FEMALE_BREAST_EXPOSED", "FEMALE_GENITALIA_EXPOSED", "MALE_GENITALIA_EXPOSED", "ANUS_EXPOSED", "BUTTOCKS_EXPOSED",
)  # fmt: skip


@dataclass(frozen=True)
class NudityFilter:
    """NudeNet's detector, whose network is part of its package. Needs the extra `nsfw`.

    labels: which of its findings count; the score is the surest one's confidence, 0 where it finds none. It knows
    photographs of a few hundred pixels: in drawings of 64 × 64 it sees what is not there, with scores up to 0.6.
    """

    labels: tuple[str, ...] = EXPOSED
    threshold: float = 0.4
    name: str = "nudity"

    def check(self, images: Tensor) -> list[Detection]:
        if not bool(images.isfinite().all()):
            raise ValueError("an image holds values that are not finite")
        # the detector expects what OpenCV reads: bytes in the order blue, green, red
        pixels = (images.float().clamp(0, 1) * 255).round().byte().flip(1).permute(0, 2, 3, 1)
        out = []
        for image in pixels.contiguous().cpu().numpy():
            found = [(d["score"], d["class"]) for d in _detector().detect(image) if d["class"] in self.labels]
            score, label = max(found, default=(0.0, None))
            out.append(Detection(self.name, score >= self.threshold, score, self.threshold, label))
        return out


@cache
def _detector() -> Any:
    try:
        from nudenet import NudeDetector
    except ModuleNotFoundError as error:
        raise ConfigError("the nudity filter needs nudenet; run: pip install 'steerclear[nsfw]'") from error
    return NudeDetector()


@dataclass(frozen=True)
class SafetyCheckerFilter:
    """diffusers' StableDiffusionSafetyChecker as a filter: the same verdict, with a score, and nothing is blackened.

    checker: the pipeline's `safety_checker`, to be taken out of the pipeline (`safety_checker=None`), where it would
    paint over pictures before any filter sees them. The score is the largest margin by which an image's embedding
    passes a concept's own threshold; the checker rounds margins to three digits and flags what is above 0.
    """

    checker: Any
    threshold: float = 0.0005
    name: str = "safety-checker"

    def check(self, images: Tensor) -> list[Detection]:
        pixels = (fit(images, self.checker.config.vision_config.image_size) - CLIP_MEAN) / CLIP_STD
        pooled = self.checker.vision_model(pixels.to(self.checker.visual_projection.weight))[1]
        embedding = F.normalize(self.checker.visual_projection(pooled).float(), dim=-1)

        def margins(concepts: Tensor, thresholds: Tensor) -> Tensor:
            return embedding @ F.normalize(concepts.float(), dim=-1).T - thresholds.float()

        special = margins(self.checker.special_care_embeds, self.checker.special_care_embeds_weights)
        # pictures that resemble a special-care concept are held to a slightly lower threshold
        stricter = 0.01 * (special > self.threshold).any(dim=1).float()
        scores = margins(self.checker.concept_embeds, self.checker.concept_embeds_weights).amax(1) + stricter
        return [Detection(self.name, s >= self.threshold, s, self.threshold) for s in scores.tolist()]
