"""Pixel distances to protected thumbnails, plain (the paper's) and by tiles (Carlini et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from steerclear._moved import forwarded
from steerclear.encoders.base import Encoder, check_embedding
from steerclear.library.approximate import LanceIndex
from steerclear.library.search import Index
from steerclear.pixels import fit
from steerclear.types import Detection

TILES = 4


def __getattr__(name: str) -> Any:
    return forwarded(__name__, name, {"Everything": "steerclear.AllPictures"})


def pixel_l2(x: Tensor, y: Tensor) -> Tensor:
    """Root mean squared pixel difference, the paper's memorization distance.

    x, y: (B, 3, H, W) in [0, 1], shapes that broadcast. Returns (B,) in [0, 1]; below 0.1 counts as memorized.
    """
    return (x - y).square().mean(dim=(-3, -2, -1)).sqrt()


def tiled_l2(x: Tensor, y: Tensor) -> Tensor:
    """The largest `pixel_l2` among 4 × 4 tiles (Carlini et al. 2023): a shared plain ground cannot fake a copy.

    x, y: (B, 3, H, W) in [0, 1], H and W multiples of 4. Returns (B,) in [0, 1].
    """
    squared = (x - y).square()
    h, w = squared.shape[-2:]
    tiles = squared.reshape(*squared.shape[:-2], TILES, h // TILES, TILES, w // TILES)
    return tiles.mean(dim=(-5, -3, -1)).flatten(-2).amax(-1).sqrt()


class Gallery(Protocol):
    """The protected pictures that an image is compared with."""

    def candidates(self, image: Tensor) -> tuple[Sequence[str], Tensor]:
        """Ids and pixels (N, 3, S, S) for one image (3, H, W)."""
        ...


@dataclass(frozen=True)
class AllPictures:
    """All of them: ids and thumbnails (N, 3, S, S) in memory."""

    ids: tuple[str, ...]
    thumbnails: Tensor

    def candidates(self, image: Tensor) -> tuple[Sequence[str], Tensor]:
        return self.ids, self.thumbnails


@dataclass(frozen=True)
class NearestPictures:
    """The nearest by an encoder, for a library too large to hold: pixels confirm what the encoder finds."""

    encoder: Encoder
    index: Index | LanceIndex
    pictures: Mapping[str, Tensor]
    count: int = 32

    def candidates(self, image: Tensor) -> tuple[Sequence[str], Tensor]:
        embedding = check_embedding(self.encoder(fit(image[None], self.encoder.size)), self.encoder, 1)
        ids = [item for item, _ in self.index.matches(embedding, self.count)[0]]
        return ids, torch.stack([self.pictures[item] for item in ids])


@dataclass(frozen=True)
class PixelFilter:
    """Flags an image whose `pixel_l2` to a protected one is small, both at the thumbnails' size.

    The score is 1 − distance, so that it grows with likeness; the default threshold is the paper's distance of 0.1.
    """

    gallery: Gallery
    threshold: float = 0.9
    name: str = "pixel"
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        return [_closest(self, pixel_l2, image) for image in images]


@dataclass(frozen=True)
class TiledFilter:
    """Flags an image whose `tiled_l2` to a protected one is small. Score and threshold as in PixelFilter."""

    gallery: Gallery
    threshold: float = 0.8
    name: str = "tiled"
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        return [_closest(self, tiled_l2, image) for image in images]


def _closest(
    one: PixelFilter | TiledFilter, distance: Callable[[Tensor, Tensor], Tensor], image: Tensor
) -> Detection:
    ids, thumbnails = one.gallery.candidates(image)
    if not ids:
        return Detection(one.name, False, 0.0, one.threshold)
    distances = distance(fit(image[None], thumbnails.shape[-1]), thumbnails.to(image))
    if not bool(torch.isfinite(distances).all()):
        raise ValueError("a pixel distance is not finite")
    best = int(distances.argmin())
    score = 1 - float(distances[best])
    return Detection(one.name, score >= one.threshold, score, one.threshold, ids[best])
