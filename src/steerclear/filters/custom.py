"""Anybody's own judgement as a filter: a function, or an image classifier in Hugging Face format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import ConfigError, ModelError
from steerclear.pixels import fit
from steerclear.types import Detection


@dataclass(frozen=True)
class CustomFilter:
    """Any function as a filter.

    score: images (B, 3, H, W) in [0, 1] → B numbers that grow with the danger; flagged from `threshold` on. What it raises,
    and a score that is NaN, flags.
    """

    name: str
    score: Callable[[Tensor], Sequence[float] | Tensor]
    threshold: float

    def check(self, images: Tensor) -> list[Detection]:
        scores = [float(s) for s in self.score(images)]
        return [Detection(self.name, s >= self.threshold, s, self.threshold) for s in scores]


@dataclass(frozen=True)
class ClassifierFilter:
    """The probability that an image classifier gives to unwanted labels, in [0, 1].

    model: a `transformers` image classifier; unwanted: its labels that must not be shown; size, mean, std: its
    preprocessing. The likeliest unwanted label is named as matched.
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
        """A classifier by folder or model name.

        Raises ModelError where it cannot be loaded, ConfigError for a label that it does not have.
        """
        from transformers import AutoModelForImageClassification
        from transformers.image_processing_base import ImageProcessingMixin

        try:
            loaded = AutoModelForImageClassification.from_pretrained(model).eval().requires_grad_(False)
            settings, _ = ImageProcessingMixin.get_image_processor_dict(model)
        except (OSError, ValueError) as error:
            raise ModelError(f"{model} holds no image classifier with its preprocessing: {error}") from error
        labels = sorted(set(loaded.config.id2label.values()))
        unknown = [label for label in unwanted if label not in labels]
        if unknown or not unwanted:
            named = repr(unknown[0]) if unknown else "no label at all"
            raise ConfigError(f"{named} is no label of {model}; its labels are {', '.join(labels)}")
        size = settings.get("size", loaded.config.image_size)
        side = size if isinstance(size, int) else int(size.get("height") or size["shortest_edge"])
        mean, std = settings.get("image_mean", [0.5] * 3), settings.get("image_std", [0.5] * 3)
        return cls(loaded, tuple(unwanted), side, tuple(mean), tuple(std), threshold, name)

    def check(self, images: Tensor) -> list[Detection]:
        pixels = fit(images, self.size)
        mean, std = (pixels.new_tensor(v).view(1, 3, 1, 1) for v in (self.mean, self.std))
        shares: Tensor = self.model(pixel_values=(pixels - mean) / std).logits.softmax(dim=-1)
        columns = [i for i, label in self.model.config.id2label.items() if label in self.unwanted]
        mine = shares[:, torch.tensor(columns, device=shares.device)]
        best = mine.argmax(dim=1).tolist()
        labels = [self.model.config.id2label[columns[i]] for i in best]
        return [
            Detection(self.name, s >= self.threshold, s, self.threshold, label)
            for s, label in zip(mine.sum(dim=1).tolist(), labels, strict=True)
        ]
