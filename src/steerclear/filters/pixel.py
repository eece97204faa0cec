"""Pixel distances to protected thumbnails, plain (the paper's) and by tiles (Carlini et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from steerclear._moved import moved
from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import LibraryError
from steerclear.filters.base import detection
from steerclear.library.approximate import LanceIndex
from steerclear.library.search import Index
from steerclear.pixels import fit
from steerclear.types import Detection

TILES = 4


def pixel_l2(x: Tensor, y: Tensor) -> Tensor:
    """Returns the root mean squared pixel difference, the paper's memorization distance.

    Args:
        x: (B, 3, H, W) in [0, 1].
        y: the same, of a shape that broadcasts with x.

    Returns:
        (B,) in [0, 1]; below 0.1 counts as memorized.
    """
    return (x - y).square().mean(dim=(-3, -2, -1)).sqrt()


def tiled_l2(x: Tensor, y: Tensor) -> Tensor:
    """Returns the largest `pixel_l2` among 4 × 4 tiles (Carlini et al. 2023).

    Two pictures on the same plain background are near by `pixel_l2`, but not by this distance.

    Args:
        x: (B, 3, H, W) in [0, 1], H and W multiples of 4.
        y: the same, of a shape that broadcasts with x.

    Returns:
        (B,) in [0, 1].
    """
    squared = (x - y).square()
    h, w = squared.shape[-2:]
    tiles = squared.reshape(*squared.shape[:-2], TILES, h // TILES, TILES, w // TILES)
    return tiles.mean(dim=(-5, -3, -1)).flatten(-2).amax(-1).sqrt()


class Gallery(Protocol):
    """The protected pictures that an image is compared with."""

    def candidates(self, image: Tensor) -> tuple[Sequence[str], Tensor]:
        """Returns the ids and pixels (N, 3, S, S) to compare one image (3, H, W) with."""
        ...


@dataclass(frozen=True)
class AllPictures:
    """All protected pictures, in memory.

    Attributes:
        ids: N item ids.
        thumbnails: (N, 3, S, S) in [0, 1].

    Raises:
        LibraryError: without any picture, since every image would be clear; or if there are more or fewer
            ids than thumbnails.
    """

    ids: tuple[str, ...]
    thumbnails: Tensor

    def __post_init__(self) -> None:
        if not self.ids:
            raise LibraryError(
                "there is no protected picture to compare with, so that every image would be clear; add "
                "pictures to the library"
            )
        if len(self.ids) != len(self.thumbnails):
            raise LibraryError(
                f"{len(self.ids)} ids do not fit thumbnails of shape {tuple(self.thumbnails.shape)}"
            )

    def candidates(self, image: Tensor) -> tuple[Sequence[str], Tensor]:
        """Returns all ids and thumbnails."""
        return self.ids, self.thumbnails


@dataclass(frozen=True)
class NearestPictures:
    """The nearest pictures by an encoder, for a library too large to hold: pixels confirm what it finds.

    Attributes:
        encoder: embeds the image.
        index: the items' vectors, made by this very encoder.
        pictures: id → thumbnail (3, S, S) in [0, 1].
        count: how many pictures are compared.
    """

    encoder: Encoder
    index: Index | LanceIndex
    pictures: Mapping[str, Tensor]
    count: int = 32

    def candidates(self, image: Tensor) -> tuple[Sequence[str], Tensor]:
        """Returns the ids and thumbnails of the items nearest to one image (3, H, W)."""
        embedding = check_embedding(self.encoder(fit(image[None], self.encoder.size)), self.encoder, 1)
        ids = [item for item, _ in self.index.matches(embedding, self.count)[0]]
        if not ids:
            raise LibraryError("the index holds no protected picture any more; add pictures to the library")
        return ids, torch.stack([self.pictures[item] for item in ids])


@dataclass(frozen=True)
class PixelFilter:
    """Flags an image whose `pixel_l2` to a protected one is small, both at the thumbnails' size.

    The score is 1 − distance, so that it grows with similarity.

    Attributes:
        gallery: the protected pictures.
        threshold: flagged from this score on; the default is the paper's distance of 0.1.
        name: the filter's name.
    """

    gallery: Gallery
    threshold: float = 0.9
    name: str = "pixel"
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1]."""
        return [_closest(self, pixel_l2, image) for image in images]


@dataclass(frozen=True)
class TiledFilter:
    """Flags an image whose `tiled_l2` to a protected one is small, both at the thumbnails' size.

    The score is 1 − distance, so that it grows with similarity.

    Attributes:
        gallery: the protected pictures.
        threshold: flagged from this score on.
        name: the filter's name.
    """

    gallery: Gallery
    threshold: float = 0.8
    name: str = "tiled"
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1]."""
        return [_closest(self, tiled_l2, image) for image in images]


def _closest(
    filter_: PixelFilter | TiledFilter, distance: Callable[[Tensor, Tensor], Tensor], image: Tensor
) -> Detection:
    """A filter's finding on one image (3, H, W)."""
    ids, thumbnails = filter_.gallery.candidates(image)
    if not ids:
        raise LibraryError(f"the filter {filter_.name!r} has no protected picture to compare with")
    distances = distance(fit(image[None], thumbnails.shape[-1]), thumbnails.to(image))
    if not bool(torch.isfinite(distances).all()):
        raise ValueError("a pixel distance is not finite")
    best = int(distances.argmin())
    return detection(filter_, 1 - float(distances[best]), ids[best])


__getattr__ = moved(  # old names, for one release
    __name__,
    {
        "Everything": "steerclear.filters.pixel:AllPictures",
        "Nominated": "steerclear.filters.pixel:NearestPictures",
    },
)
