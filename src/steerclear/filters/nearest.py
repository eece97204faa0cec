"""The main filter: how near an image is to the nearest protected picture, in an encoder's space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import LibraryError
from steerclear.filters.base import detection
from steerclear.library.approximate import LanceIndex
from steerclear.library.search import Index
from steerclear.pixels import fit
from steerclear.types import Detection


@dataclass(frozen=True)
class NearestFilter:
    """Flags by the cosine, in [-1, 1], to the nearest protected item in an encoder's space.

    Attributes:
        encoder: embeds the images.
        index: the items' vectors, made by this very encoder, in memory or on disk.
        threshold: flagged from this cosine on.
        name: the filter's name.

    Raises:
        LibraryError: if the index holds nothing: every picture would be clear.
    """

    encoder: Encoder
    index: Index | LanceIndex
    threshold: float
    name: str = "nearest"
    cost: ClassVar[str] = "library"

    def __post_init__(self) -> None:
        self._check_index()

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1].

        Raises:
            LibraryError: if the index on disk has lost all its items since.
        """
        self._check_index()
        embedding = check_embedding(self.encoder(fit(images, self.encoder.size)), self.encoder, len(images))
        best = [matches[0] for matches in self.index.matches(embedding, 1)]
        return [detection(self, score, item) for item, score in best]

    def _check_index(self) -> None:
        if not len(self.index):
            raise LibraryError(
                f"the filter {self.name!r} has no item to compare with, so that every picture would be "
                "clear; add pictures to the library"
            )
