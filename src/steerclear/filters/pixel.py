"""Pixel distances to protected thumbnails, plain (the paper's) and by tiles (Carlini et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steerclear.filters.nearest import fit
from steerclear.types import Detection

TILES = 4


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


@dataclass(frozen=True)
class PixelFilter:
    """Flags an image whose `pixel_l2` to a protected one is small, both at the thumbnails' size.

    The score is 1 − distance, so that it grows with likeness; the default threshold is the paper's distance of 0.1.
    """

    ids: tuple[str, ...]
    thumbnails: Tensor
    threshold: float = 0.9
    name: str = "pixel"
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        return _closest(self, pixel_l2, images)


@dataclass(frozen=True)
class TiledFilter:
    """Flags an image whose `tiled_l2` to a protected one is small. Score and threshold as in PixelFilter."""

    ids: tuple[str, ...]
    thumbnails: Tensor
    threshold: float = 0.8
    name: str = "tiled"
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        return _closest(self, tiled_l2, images)


def _closest(one: PixelFilter | TiledFilter, distance: object, images: Tensor) -> list[Detection]:
    if not one.ids:
        return [Detection(one.name, False, 0.0, one.threshold)] * len(images)
    small = fit(images, one.thumbnails.shape[-1])
    out = []
    for image in small:
        distances = distance(image, one.thumbnails.to(image))  # type: ignore[operator]
        if not bool(torch.isfinite(distances).all()):
            raise ValueError("a pixel distance is not finite")
        best = int(distances.argmin())
        score = 1 - float(distances[best])
        out.append(Detection(one.name, score >= one.threshold, score, one.threshold, one.ids[best]))
    return out
