"""Painted places of the scenes, such as a beach or a forest: a few lines of NumPy and a random draw each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, np.dtype[Any]]


def _sky(size: int, top: tuple[float, ...], bottom: tuple[float, ...]) -> Pixels:
    """A vertical gradient (size, size, 3)."""
    t = np.linspace(0, 1, size)[:, None, None]
    row = np.array(top) * (1 - t) + np.array(bottom) * t
    return np.broadcast_to(row, (size, size, 3)).copy()


def _hills(
    image: Pixels, colour: tuple[float, ...], height: float, rough: float, rng: np.random.Generator
) -> None:
    """Paint everything below a wavy line, in place."""
    size = len(image)
    x = np.linspace(0, 2 * np.pi, size)
    line = np.zeros(size)
    for k in (1, 2, 3):
        line += rng.uniform(-rough, rough) * np.sin(k * x + rng.uniform(0, 7))
    image[np.arange(size)[:, None] > (1 - height + line)[None] * size] = np.array(colour)


def _disc(image: Pixels, x: float, y: float, r: float, colour: tuple[float, ...]) -> None:
    """Paint a disc, in place; all lengths as shares of the side."""
    v, u = np.mgrid[: len(image), : len(image)] / len(image)
    image[(u - x) ** 2 + (v - y) ** 2 < r**2] = np.array(colour)


def _dots(image: Pixels, n: int, colour: tuple[float, ...], low: float, rng: np.random.Generator) -> None:
    """Paint single pixels above a height, in place."""
    size = len(image)
    image[rng.integers(0, int(low * size), n), rng.integers(0, size, n)] = np.array(colour)


def _beach(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.45, 0.75, 0.95), (0.85, 0.95, 1.0))
    image[int(0.45 * size) :] = (0.1, 0.5, 0.7)
    _hills(image, colour=(0.93, 0.82, 0.55), height=rng.uniform(0.3, 0.4), rough=0.03, rng=rng)
    _disc(image, x=rng.uniform(0.1, 0.9), y=0.15, r=0.09, colour=(1.0, 0.95, 0.5))
    return image


def _forest(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.6, 0.75, 0.7), (0.3, 0.45, 0.35))
    v, u = np.mgrid[:size, :size] / size
    for _ in range(9):
        x, top, wide = rng.uniform(0, 1), rng.uniform(0.0, 0.35), rng.uniform(0.18, 0.3)
        shade = rng.uniform(0.5, 1.1)
        image[(np.abs(u - x) < (v - top) * wide / 2) & (v < 0.85)] = np.array((0.08, 0.3, 0.15)) * shade
    _hills(image, colour=(0.2, 0.25, 0.1), height=0.2, rough=0.02, rng=rng)
    return image


def _night(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.02, 0.03, 0.15), (0.15, 0.12, 0.4))
    _dots(image, n=60, colour=(1.0, 1.0, 0.9), low=0.8, rng=rng)
    _disc(image, x=rng.uniform(0.1, 0.9), y=rng.uniform(0.1, 0.25), r=0.08, colour=(0.95, 0.95, 0.8))
    _hills(image, colour=(0.03, 0.05, 0.1), height=0.15, rough=0.03, rng=rng)
    return image


def _snow(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.55, 0.65, 0.8), (0.8, 0.85, 0.92))
    _hills(image, colour=(0.75, 0.82, 0.92), height=0.45, rough=0.06, rng=rng)
    _hills(image, colour=(0.95, 0.97, 1.0), height=0.28, rough=0.03, rng=rng)
    _dots(image, n=70, colour=(1.0, 1.0, 1.0), low=1.0, rng=rng)
    return image


def _desert(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.55, 0.2, 0.45), (1.0, 0.65, 0.25))
    _disc(image, x=rng.uniform(0.15, 0.85), y=0.5, r=0.14, colour=(1.0, 0.9, 0.5))
    _hills(image, colour=(0.75, 0.4, 0.2), height=0.4, rough=0.05, rng=rng)
    _hills(image, colour=(0.85, 0.5, 0.25), height=0.25, rough=0.05, rng=rng)
    return image


def _meadow(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.35, 0.65, 1.0), (0.75, 0.9, 1.0))
    for _ in range(3):
        x, y = rng.uniform(0.1, 0.9), rng.uniform(0.08, 0.3)
        for k in range(3):
            _disc(image, x=x + 0.07 * (k - 1), y=y, r=0.06, colour=(1.0, 1.0, 1.0))
    _hills(image, colour=(0.3, 0.65, 0.2), height=0.45, rough=0.05, rng=rng)
    _hills(image, colour=(0.4, 0.75, 0.25), height=0.25, rough=0.03, rng=rng)
    return image


def _city(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.5, 0.5, 0.6), (0.85, 0.75, 0.65))
    x = 0
    while x < size:
        wide, high = int(rng.integers(size // 8, size // 4)), rng.uniform(0.35, 0.85)
        grey = rng.uniform(0.2, 0.5)
        top = int((1 - high) * size)
        image[top:, x : x + wide] = (grey, grey, grey * 1.15)
        image[top + 2 :: 5, x + 1 : x + wide - 1 : 3] = (0.95, 0.85, 0.45)
        x += wide + 1
    image[int(0.86 * size) :] = (0.25, 0.25, 0.28)
    return image


def _sea(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.2, 0.7, 0.85), (0.0, 0.15, 0.4))
    for _ in range(14):
        _disc(
            image,
            x=rng.uniform(0, 1),
            y=rng.uniform(0, 0.8),
            r=rng.uniform(0.012, 0.03),
            colour=(0.6, 0.9, 0.95),
        )
    _hills(image, colour=(0.6, 0.55, 0.35), height=0.12, rough=0.03, rng=rng)
    return image


def _mountains(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.4, 0.6, 0.85), (0.9, 0.85, 0.8))
    v, u = np.mgrid[:size, :size] / size
    for _ in range(4):
        x, top, slope = rng.uniform(0, 1), rng.uniform(0.1, 0.4), rng.uniform(0.6, 1.2)
        inside = np.abs(u - x) < (v - top) * slope
        image[inside] = np.array((0.4, 0.4, 0.5)) * rng.uniform(0.8, 1.1)
        image[inside & (v < top + 0.12)] = (0.97, 0.97, 1.0)
    _hills(image, colour=(0.25, 0.4, 0.25), height=0.2, rough=0.03, rng=rng)
    return image


def _stage(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.15, 0.02, 0.05), (0.3, 0.05, 0.08))
    v, u = np.mgrid[:size, :size] / size
    fold = 0.5 + 0.2 * np.sin(u * 2 * np.pi * rng.uniform(7, 10) + rng.uniform(0, 6))
    image[..., 0] = np.where((u < 0.28) | (u > 0.72), 0.35 + fold * 0.6, image[..., 0])
    light = np.abs(u - 0.5) < 0.08 + v * rng.uniform(0.15, 0.25)
    image[light & (u > 0.28) & (u < 0.72)] += (0.35, 0.3, 0.15)
    image[int(0.82 * size) :] = (0.45, 0.28, 0.15)
    return image


def _room(size: int, rng: np.random.Generator) -> Pixels:
    wall = rng.uniform(0.8, 1.0) * np.array((0.85, 0.65, 0.5))
    image = _sky(size, tuple(wall), tuple(wall * 0.9))
    left = int(rng.uniform(0.05, 0.6) * size)
    w = size // 3
    image[size // 10 : size // 10 + w, left : left + w] = (0.5, 0.35, 0.2)
    image[size // 10 + 2 : size // 10 + w - 2, left + 2 : left + w - 2] = (0.6, 0.8, 0.95)
    image[size // 10 : size // 10 + w, left + w // 2] = (0.5, 0.35, 0.2)
    image[int(0.75 * size) :] = (0.5, 0.3, 0.18)
    image[int(0.75 * size) :: 4] = (0.42, 0.25, 0.15)
    return image


def _moon(size: int, rng: np.random.Generator) -> Pixels:
    image = np.zeros((size, size, 3))
    _dots(image, n=50, colour=(1.0, 1.0, 1.0), low=1.0, rng=rng)
    _disc(image, x=rng.uniform(0.15, 0.85), y=0.2, r=0.12, colour=(0.2, 0.45, 0.9))
    _hills(image, colour=(0.6, 0.6, 0.62), height=0.35, rough=0.03, rng=rng)
    for _ in range(4):
        _disc(image, x=rng.uniform(0, 1), y=rng.uniform(0.75, 0.95), r=0.05, colour=(0.48, 0.48, 0.5))
    return image


def _storm(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.15, 0.17, 0.22), (0.4, 0.45, 0.5))
    x = rng.uniform(0.15, 0.85)
    for y in range(int(0.5 * size)):
        x += rng.uniform(-0.03, 0.03)
        image[y, int(np.clip(x, 0, 0.97) * size) : int(np.clip(x, 0, 0.97) * size) + 2] = (1.0, 1.0, 0.7)
    _hills(image, colour=(0.1, 0.25, 0.35), height=0.3, rough=0.08, rng=rng)
    return image


def _volcano(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.2, 0.02, 0.02), (0.9, 0.3, 0.05))
    _hills(image, colour=(0.15, 0.08, 0.08), height=0.5, rough=0.12, rng=rng)
    _hills(image, colour=(1.0, 0.55, 0.1), height=0.18, rough=0.03, rng=rng)
    _dots(image, n=40, colour=(1.0, 0.8, 0.2), low=1.0, rng=rng)
    return image


def _cloud(size: int, rng: np.random.Generator) -> Pixels:
    image = _sky(size, (0.5, 0.7, 1.0), (1.0, 0.85, 0.9))
    for _ in range(9):
        pink = rng.uniform(0.7, 0.85)
        _disc(
            image,
            x=rng.uniform(0, 1),
            y=rng.uniform(0.75, 1.0),
            r=rng.uniform(0.1, 0.2),
            colour=(1.0, pink, pink + 0.05),
        )
    return image


def _picnic(size: int, rng: np.random.Generator) -> Pixels:
    image = np.ones((size, size, 3))
    step = int(rng.integers(8, 13))
    shift = int(rng.integers(0, step))
    rows = ((np.arange(size) + shift) // (step // 2) % 2).astype(bool)
    red = np.array((0.85, 0.15, 0.15))
    image[rows] = image[rows] * 0.5 + red * 0.5
    image[:, rows] = image[:, rows] * 0.5 + red * 0.5
    return image


PLACES: dict[str, Callable[[int, np.random.Generator], Pixels]] = {
    "on a sandy beach": _beach,
    "in a pine forest": _forest,
    "under a starry night sky": _night,
    "in the snow": _snow,
    "in a desert at sunset": _desert,
    "in a green meadow": _meadow,
    "in a city street": _city,
    "under the sea": _sea,
    "in the mountains": _mountains,
    "on a stage with red curtains": _stage,
    "in a cosy room": _room,
    "on the moon": _moon,
    "under a stormy sky": _storm,
    "in a volcano": _volcano,
    "on a pink cloud": _cloud,
    "on a picnic blanket": _picnic,
}
