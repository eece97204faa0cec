"""Exact and nearly exact copies by perceptual hash: no neural network, no device, a millisecond an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from steerclear.errors import ConfigError
from steerclear.pixels import fit
from steerclear.types import Detection

BITS = 256
SIDE = 256  # pixels at which all are hashed: small pictures of different sizes hash differently otherwise
SAME = 1 - 31 / BITS  # the distance that PDQ's authors advise for "the same picture"

Bits = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class HashFilter:
    """Flags an image whose PDQ hash is near a protected one's (Facebook, "The TMK+PDQF video-hashing algorithm", 2019).

    ids: N item names; hashes: (N, 256) bool. The score is the share of equal bits, in [0, 1]. It sees through scaling and
    compression, not through crops, turns or redrawing. Needs the extra `hash`.
    """

    ids: tuple[str, ...]
    hashes: Bits
    threshold: float = SAME
    name: str = "hash"
    cost: ClassVar[str] = "library"

    def __post_init__(self) -> None:
        if self.hashes.shape != (len(self.ids), BITS):
            raise ConfigError(f"{len(self.ids)} ids but hashes of shape {self.hashes.shape}, not (N, {BITS})")

    @classmethod
    def of(cls, ids: Sequence[str], images: Tensor, threshold: float = SAME) -> HashFilter:
        """A filter for protected images (N, 3, H, W) in [0, 1]."""
        return cls(tuple(ids), pdq(images), threshold)

    def check(self, images: Tensor) -> list[Detection]:
        if not self.ids:
            return [Detection(self.name, False, 0.0, self.threshold)] * len(images)
        equal = (pdq(images)[:, None] == self.hashes[None]).mean(axis=2)
        best = equal.argmax(axis=1)
        return [
            Detection(self.name, float(row[i]) >= self.threshold, float(row[i]), self.threshold, self.ids[i])
            for row, i in zip(equal, best.tolist(), strict=True)
        ]


def pdq(images: Tensor) -> Bits:
    """PDQ hashes (B, 256) of images (B, 3, H, W) in [0, 1]. Raises ConfigError without the extra `hash`."""
    try:
        import pdqhash
    except ModuleNotFoundError as error:
        raise ConfigError("the hash filter needs pdqhash; run: pip install 'steerclear[hash]'") from error

    if not bool(images.isfinite().all()):
        raise ValueError("an image holds values that are not finite")
    pixels = (fit(images.float().clamp(0, 1), SIDE) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    rows = [pdqhash.compute(np.ascontiguousarray(image))[0].astype(bool) for image in pixels]
    return np.stack(rows) if rows else np.empty((0, BITS), bool)
