"""Test doubles for an encoder and a filter."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from steerclear.types import Detection


class FakeEncoder:
    """An encoder without weights to download: a fixed random projection of the shrunken image.

    Equal arguments give equal embeddings on any machine. Similar images get similar embeddings, and gradients
    reach the pixels.

    Args:
        dim: width of the embedding.
        size: side in pixels to which images are averaged.
        name: also seeds the projection, so two names give two different spaces.
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
        """Embeddings (B, dim), float32 of unit length, of images (B, 3, H, W) in [0, 1]."""
        pixels = F.adaptive_avg_pool2d(images.float() - 0.5, self.size).flatten(1)
        # a constant feature gives plain grey a direction as well
        features = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
        return F.normalize(features @ self._projection.to(images.device), dim=1)


Verdict = bool | float | Detection | BaseException
"""Flagged or not, a score to compare with the threshold, a whole detection, or an error to raise."""


class MockFilter:
    """A filter that gives the verdicts it is told, and records what it was asked.

    Args:
        verdicts: one for all images; or several, one per image in their order, starting over at the end; or a
            function of one image (3, H, W) that returns one. A verdict is a bool, a score (flagged from
            `threshold` on, or if NaN), a Detection, or an exception, which `check` raises.
        name: of the filter.
        threshold: to which scores are compared.
        cost: see `steerclear.filters`.

    Attributes:
        calls: a copy of the images of every call.
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
        """Number of images seen."""
        return sum(len(images) for images in self.calls)

    def check(self, images: Tensor) -> list[Detection]:
        """B detections of images (B, 3, H, W) in [0, 1]; raises a verdict that is an exception."""
        self.calls.append(images.detach().clone())
        return [self._detection(self._next(image)) for image in images]

    def _detection(self, verdict: Verdict) -> Detection:
        """The detection that a verdict stands for."""
        if isinstance(verdict, BaseException):
            raise verdict
        if isinstance(verdict, Detection):
            return verdict
        score = float(verdict)
        flagged = math.isnan(score) or score >= self.threshold
        if isinstance(verdict, bool):
            flagged = verdict
        return Detection(filter=self.name, flagged=flagged, score=score, threshold=self.threshold)


def _source(verdicts: Any) -> Callable[[Tensor], Verdict]:
    """A function that gives the verdict on the next image."""
    if isinstance(verdicts, (bool, float, int, Detection, BaseException)):
        return lambda image: verdicts
    if callable(verdicts):
        function: Callable[[Tensor], Verdict] = verdicts
        return function
    endless = cycle(verdicts)
    return lambda image: next(endless)
