"""Test doubles for the two things a guard asks about an image: where it lies, and whether it may go out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import Detection


class FakeEncoder:
    """An encoder without weights to download: a fixed random projection of the shrunken image.

    dim: width of the embedding; size: side in pixels to which images are averaged; name: also seeds the
    projection, so two names are two different spaces. Equal arguments give equal embeddings on any machine.
    Nearby images get nearby embeddings, and gradients reach the pixels.
    """

    differentiable = True

    def __init__(self, dim: int = 16, size: int = 16, name: str = "fake") -> None:
        self.name = name
        self.dim = dim
        self.size = size
        self.fingerprint = hashlib.sha256(f"FakeEncoder/{name}/{dim}/{size}".encode()).hexdigest()[:16]
        generator = torch.Generator().manual_seed(int(self.fingerprint[:15], 16))
        self._projection = torch.randn(3 * size * size + 1, dim, generator=generator)

    def __call__(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [0, 1]. Returns (B, dim) float32 of unit length."""
        pixels = F.adaptive_avg_pool2d(images.float() - 0.5, self.size).flatten(1)
        # a constant feature gives plain grey a direction as well
        features = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
        return F.normalize(features @ self._projection.to(images.device), dim=1)


Verdict = bool | float | Detection | BaseException
"""Flagged or clear, a score to compare with the threshold, a whole detection, or an error to raise."""


class MockFilter:
    """A filter that answers what it is told, and remembers what it was asked.

    verdicts: one per image, in the order in which images come, starting over at the end; or a function of one
    image (3, H, W) that returns one. A verdict is a bool, a score (flagged from `threshold` on, or NaN),
    a Detection, or an exception, which `check` raises.
    `calls` holds a copy of the images of every call, `count` the number of images seen.
    """

    def __init__(
        self,
        verdicts: Verdict | Iterable[Verdict] | Callable[[Tensor], Verdict] = False,
        name: str = "mock",
        threshold: float = 0.5,
        cost: str = "network",
    ) -> None:
        self.name = name
        self.threshold = threshold
        self.cost = cost
        self.calls: list[Tensor] = []
        self._next = _source(verdicts)

    @property
    def count(self) -> int:
        return sum(len(images) for images in self.calls)

    def check(self, images: Tensor) -> list[Detection]:
        """images: (B, 3, H, W) in [0, 1]. Returns B detections; raises what the next verdict says."""
        self.calls.append(images.detach().clone())
        return [self._detection(self._next(image)) for image in images]

    def _detection(self, verdict: Verdict) -> Detection:
        if isinstance(verdict, BaseException):
            raise verdict
        if isinstance(verdict, Detection):
            return verdict
        score = float(verdict)
        flagged = math.isnan(score) or score >= self.threshold
        if isinstance(verdict, bool):
            flagged = verdict
        return Detection(self.name, flagged, score, self.threshold)


def _source(verdicts: Any) -> Callable[[Tensor], Verdict]:
    if isinstance(verdicts, (bool, float, int, Detection, BaseException)):
        return lambda image: verdicts
    if callable(verdicts):
        answer: Callable[[Tensor], Verdict] = verdicts
        return answer
    endless = cycle(verdicts)
    return lambda image: next(endless)
