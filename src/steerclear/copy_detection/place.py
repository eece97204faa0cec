"""What the copy detector answers: which protected picture a picture shows, how surely, and where."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from steerclear.types import Place


def place_of(placed: Tensor, height: int, width: int) -> Place:
    """The place that an affine map describes.

    Args:
        placed: (2, 3), from the protected picture's coordinates in [−1, 1] to the picture's.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
    """
    (a, b, x), (c, d, y) = placed.tolist()
    reach_x, reach_y = abs(a) + abs(b), abs(c) + abs(d)
    left, top, right, bottom = (
        round(min(1.0, max(0.0, (v + 1) / 2)), 4)
        for v in (x - reach_x, y - reach_y, x + reach_x, y + reach_y)
    )
    # in pixels, so that an angle in a long picture is what the viewer sees
    a, b, c, d = a * width, b * width, c * height, d * height
    area = a * d - b * c
    mirrored = area < 0
    if mirrored:
        a, c = -a, -c
    turn = (round(math.degrees(math.atan2(c - b, a + d)), 1) + 180) % 360 - 180
    scale = round(math.sqrt(abs(area) / (height * width)), 3)
    return Place((left, top, right, bottom), scale=scale, turn=turn, mirrored=mirrored)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What each measure says of a picture and a protected one.

    Attributes:
        orientation: how well the directions of the edges agree, in [0, 1].
        soft: how well edges, brightness and colours agree together, in [0, 1].
        inliers: local features that agree on one placement; None where they were not compared.
        sameness: how much of the protected picture's contrast is the same, whole laid over whole, in [0, 1].
    """

    orientation: float
    soft: float
    inliers: int | None = None
    sameness: float = 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """A protected picture that a picture resembles.

    Attributes:
        id: of the protected picture.
        score: evidence over its thresholds, 1 or more where it is a copy.
        place: where it lies; None where it was not aligned.
        evidence: what the score was made of.
    """

    id: str
    score: float
    place: Place | None
    evidence: Evidence | None = None
