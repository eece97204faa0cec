"""Your own judgement as a filter: a function, or an image classifier in Hugging Face format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import ConfigError, ModelError
from steerclear.filters.base import detection
from steerclear.pixels import fit, normalised, processor_side
from steerclear.types import Detection


@dataclass(frozen=True)
class CustomFilter:
    """Any function as a filter. If it raises, or a score is NaN, the image is flagged.

    Attributes:
        name: the filter's name.
        score: images (B, 3, H, W) in [0, 1] → B numbers that grow with the danger.
        threshold: flagged from this score on.
    """

    name: str
    score: Callable[[Tensor], Sequence[float] | Tensor]
    threshold: float

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1]."""
        return [detection(self, float(score)) for score in self.score(images)]


@dataclass(frozen=True)
class ClassifierFilter:
    """Flags by the probability, in [0, 1], that an image classifier gives to unwanted labels.

    The likeliest unwanted label is named as matched.

    Attributes:
        model: a `transformers` image classifier.
        unwanted: its labels that must not be shown.
        size: the side in pixels of the images that it expects.
        mean: per channel, subtracted from the pixels.
        std: per channel, divides the pixels.
        threshold: flagged from this probability on.
        name: the filter's name.
    """

    model: Any
    unwanted: tuple[str, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: float = 0.5
    name: str = "classifier"

    @classmethod
    def from_pretrained(
        cls, model: str | Path, unwanted: Sequence[str], threshold: float = 0.5, name: str = "classifier"
    ) -> ClassifierFilter:
        """Loads a classifier.

        Args:
            model: a folder or hub id.
            unwanted: its labels that must not be shown.
            threshold: flagged from this probability on.
            name: the filter's name.

        Raises:
            ModelError: if it cannot be loaded.
            ConfigError: for a label that it does not have.
        """
        from transformers import AutoModelForImageClassification
        from transformers.image_processing_base import ImageProcessingMixin

        try:
            classifier = AutoModelForImageClassification.from_pretrained(model).eval().requires_grad_(False)
            settings, _ = ImageProcessingMixin.get_image_processor_dict(model)
        except (OSError, ValueError) as error:
            raise ModelError(f"{model} holds no image classifier with its preprocessing: {error}") from error
        labels = sorted(set(classifier.config.id2label.values()))
        unknown = [label for label in unwanted if label not in labels]
        if unknown or not unwanted:
            what = repr(unknown[0]) if unknown else "no label at all"
            raise ConfigError(f"{what} is no label of {model}; its labels are {', '.join(labels)}")
        return cls(
            model=classifier,
            unwanted=tuple(unwanted),
            size=processor_side(settings, getattr(classifier.config, "image_size", 224)),
            mean=tuple(settings.get("image_mean", [0.5] * 3)),
            std=tuple(settings.get("image_std", [0.5] * 3)),
            threshold=threshold,
            name=name,
        )

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1]."""
        pixels = normalised(fit(images, self.size), self.mean, self.std)
        probabilities: Tensor = self.model(pixel_values=pixels).logits.softmax(dim=-1)
        columns = [i for i, label in self.model.config.id2label.items() if label in self.unwanted]
        unwanted = probabilities[:, torch.tensor(columns, device=probabilities.device)]
        labels = [self.model.config.id2label[columns[i]] for i in unwanted.argmax(dim=1).tolist()]
        return [
            detection(self, score, label)
            for score, label in zip(unwanted.sum(dim=1).tolist(), labels, strict=True)
        ]
