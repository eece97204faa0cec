"""The main filter: how near an image lies to its nearest protected neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from steerclear.encoders.base import Encoder, check_embedding
from steerclear.library.search import nearest
from steerclear.types import Detection


@dataclass(frozen=True)
class NearestFilter:
    """Cosine to the nearest protected item in an encoder's space.

    ids: N item names; vectors: (N, D) unit length, made by this very encoder. An empty library flags nothing.
    """

    encoder: Encoder
    ids: tuple[str, ...]
    vectors: Tensor
    threshold: float
    name: str = "nearest"
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        if not self.ids:
            return [Detection(self.name, False, -1.0, self.threshold)] * len(images)
        embedding = check_embedding(self.encoder(fit(images, self.encoder.size)), self.encoder, len(images))
        scores, indices = nearest(embedding, self.vectors, 1)
        return [
            Detection(self.name, float(s) >= self.threshold, float(s), self.threshold, self.ids[int(i)])
            for s, i in zip(scores[:, 0], indices[:, 0], strict=True)
        ]


def fit(images: Tensor, size: int) -> Tensor:
    """Images resized to size × size, antialiased; left alone where they already fit."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(
        images, size=(size, size), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
