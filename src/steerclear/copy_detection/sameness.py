"""Whole against whole: recognise a protected picture that is unaltered or nearly so, however plain it is.

Stripes and gradients have too few edges, or edges of one direction, for `align` and `decide` to trust. Here
colours are compared, and only in the picture's own orientation: a plain picture mirrored or turned is often
another plain picture, as Ireland's flag mirrored is Ivory Coast's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.copy_detection.features import cell_means

SIDES = (32, 16)  # pixels a side; the better of both counts, since JPEG blurs fine colours
ROUGH = 8  # side in pixels of the low-resolution pictures
NOISE = 0.006  # difference that counts as noise: JPEG at quality 60 on a plain ground
KEPT = (
    0.5  # share of a picture's contrast that must be left at a side, or any grey would be like fine stripes
)
LEAST = 0.5  # sameness below which a protected picture is not compared in full
LEAST_CONTRAST = 0.015  # a picture with less contrast counts as blank
MOST = 32  # most protected pictures that are compared in full


@dataclass(frozen=True)
class RoughPictures:
    """What is kept of N protected pictures. rough: (N, 3 · ROUGH²) in [0, 1]; contrast: (N,)."""

    rough: Tensor
    contrast: Tensor

    @classmethod
    def of(cls, pictures: Tensor) -> RoughPictures:
        """Make it of pictures.

        Args:
            pictures: (N, 3, S, S) in [0, 1], S a multiple of the largest of SIDES.
        """
        return cls(_at(pictures, ROUGH).flatten(1), contrast(pictures))

    def nominate(self, picture: Tensor) -> Tensor:
        """Rows of the protected pictures that a picture (3, S, S) may be, the likeliest first.

        Means over larger squares differ by no more than their parts do, so that none whose sameness reaches
        LEAST is left out, as long as these are no more than MOST.
        """
        error = (self.rough - _at(picture[None], ROUGH).flatten(1)).square().mean(1).sqrt()
        share = (error - NOISE) / self.contrast
        rows = (share <= 1 - LEAST).nonzero().flatten()
        return rows[share[rows].argsort(stable=True)[:MOST]]


def sameness(picture: Tensor, protected: Tensor) -> Tensor:
    """How much of a protected picture's contrast is the same in a picture that is laid over it, in [0, 1].

    That is 1 less the root mean square difference of their colours over the protected picture's own spread of
    colours, so that other colours in the same layout differ by much, and a faint picture is not like another.

    Args:
        picture: (3, S, S) in [0, 1], S a multiple of the largest of SIDES.
        protected: (n, 3, S, S).

    Returns:
        (n,).
    """
    best = protected.new_zeros(len(protected))
    whole = contrast(protected)
    for side in SIDES:
        small, goal = _at(picture[None], side), _at(protected, side)
        error = (small - goal).square().mean(dim=(1, 2, 3)).sqrt()
        spread = _spread(goal)
        alike = 1 - (error - NOISE).clamp(min=0) / spread.clamp(min=NOISE)
        best = torch.where(spread >= KEPT * whole, torch.maximum(best, alike), best)
    return best


def contrast(pictures: Tensor) -> Tensor:
    """Spread of the colours of pictures (n, 3, S, S) around each channel's mean: (n,)."""
    return _spread(_at(pictures, SIDES[0]))


def _spread(pictures: Tensor) -> Tensor:
    spread: Tensor = (pictures - pictures.mean(dim=(2, 3), keepdim=True)).square().mean(dim=(1, 2, 3)).sqrt()
    return spread


def _at(pictures: Tensor, side: int) -> Tensor:
    """Pictures (n, 3, S, S) at side × side."""
    return cell_means(pictures, pictures.shape[-1] // side)
