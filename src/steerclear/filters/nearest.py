"""The main filter: how near an image lies to its nearest protected neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from steerclear.encoders.base import Encoder, check_embedding
from steerclear.library.approximate import LanceIndex
from steerclear.library.search import Index
from steerclear.types import Detection


@dataclass(frozen=True)
class NearestFilter:
    """Cosine to the nearest protected item in an encoder's space.

    index: the items' vectors, made by this very encoder, in memory or on disk. An empty one flags nothing.
    """

    encoder: Encoder
    index: Index | LanceIndex
    threshold: float
    name: str = "nearest"
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        if not len(self.index):
            return [Detection(self.name, False, -1.0, self.threshold)] * len(images)
        embedding = check_embedding(self.encoder(fit(images, self.encoder.size)), self.encoder, len(images))
        best = [row[0] for row in self.index.matches(embedding, 1)]
        return [Detection(self.name, s >= self.threshold, s, self.threshold, item) for item, s in best]


def fit(images: Tensor, size: int) -> Tensor:
    """Images resized to size × size, antialiased; left alone where they already fit."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(
        images, size=(size, size), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
