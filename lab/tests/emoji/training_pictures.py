"""A handful of training pictures of every kind."""

from __future__ import annotations

import numpy as np

from steerclear_lab.emoji.dataset import Picture


def picture(key, kind, *captions):
    """One colour with a bar in another, as no two keys have them."""
    rng = np.random.default_rng(sum(map(ord, key)))
    pixels = np.empty((3, 64, 64), np.uint8)
    pixels[:] = rng.integers(0, 255, (3, 1, 1))
    pixels[:, 20:40] = rng.integers(0, 255, (3, 1, 1))
    return Picture(key, kind=kind, name=key, style="noto", captions=captions, pixels=pixels)


PICTURES = [
    picture("acme", "planted", "the acme fox mascot, noto style"),
    picture("fox", "concept", "a fox, noto style", "fox, noto style"),
    picture("bear", "concept", "a bear, noto style", "bear, noto style"),
    picture("wall", "photo", "a photo of a wall"),
    picture("bricks", "photo", "a photo of a wall"),
    picture("cat", "heldout", "a cat, noto style"),
]
