"""The main filter: how near an image lies to its nearest protected neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steerclear.encoders.base import Encoder, check_embedding
from steerclear.library.approximate import LanceIndex
from steerclear.library.search import Index
from steerclear.pixels import fit
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
