"""Exact and nearly exact copies by perceptual hash: no neural network, no device, a millisecond an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from steerclear.errors import ConfigError, LibraryError
from steerclear.filters.base import detection
from steerclear.pixels import fit
from steerclear.types import Detection

BITS = 256
# pixels; all pictures are hashed at this size, since small pictures of different sizes hash differently
SIDE = 256
SAME = 1 - 31 / BITS  # the distance that PDQ's authors advise for "the same picture"

Bits = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class HashFilter:
    """Flags an image whose PDQ hash is near a protected one's.

    The hash is Facebook's ("The TMK+PDQF video-hashing algorithm", 2019). The score is the share of equal
    bits, in [0, 1]. It recognises scaled and compressed copies, but no crops, rotations or redrawings. Needs
    the extra `hash`.

    Attributes:
        ids: the N protected items.
        hashes: (N, 256) bool.
        threshold: flagged from this share of equal bits on.
        name: the filter's name.

    Raises:
        ConfigError: if the hashes do not fit the ids.
        LibraryError: without any item, since every image would be clear.
    """

    ids: tuple[str, ...]
    hashes: Bits
    threshold: float = SAME
    name: str = "hash"
    cost: ClassVar[str] = "library"

    def __post_init__(self) -> None:
        if self.hashes.shape != (len(self.ids), BITS):
            raise ConfigError(f"{len(self.ids)} ids but hashes of shape {self.hashes.shape}, not (N, {BITS})")
        if not self.ids:
            raise LibraryError(
                f"the filter {self.name!r} has no hash to compare with, so that every image would be clear; "
                "add pictures to the library"
            )

    @classmethod
    def of(cls, ids: Sequence[str], images: Tensor, threshold: float = SAME) -> HashFilter:
        """Makes a filter for protected images.

        Args:
            ids: N item ids.
            images: (N, 3, H, W) in [0, 1].
            threshold: flagged from this share of equal bits on.

        Raises:
            ConfigError: without the extra `hash`.
            LibraryError: without any item.
        """
        return cls(tuple(ids), pdq(images), threshold)

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1]."""
        equal = (pdq(images)[:, None] == self.hashes[None]).mean(axis=2)
        best = equal.argmax(axis=1)
        return [
            detection(self, float(row[i]), self.ids[i]) for row, i in zip(equal, best.tolist(), strict=True)
        ]


def pdq(images: Tensor) -> Bits:
    """Returns the PDQ hashes (B, 256) of images (B, 3, H, W) in [0, 1].

    Raises:
        ConfigError: without the extra `hash`.
        ValueError: for an image that is not finite.
    """
    try:
        import pdqhash
    except ModuleNotFoundError as error:
        raise ConfigError("the hash filter needs pdqhash; run: pip install 'steerclear[hash]'") from error

    if not bool(images.isfinite().all()):
        raise ValueError("an image holds values that are not finite")
    pixels = (fit(images.float().clamp(0, 1), SIDE) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    rows = [pdqhash.compute(np.ascontiguousarray(image))[0].astype(bool) for image in pixels]
    return np.stack(rows) if rows else np.empty((0, BITS), bool)
