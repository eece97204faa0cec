"""Thresholds for the pictures that a user's own model draws: as low as ordinary pictures allow, and never
below a floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from steerclear.copy_detection.copy_filter import CopyFilter
from steerclear.copy_detection.decide import Thresholds
from steerclear.errors import InputError

SHARE = 0.998  # of ordinary pictures that each measure alone must leave clear
FLOORS = Thresholds()  # below them chance alone makes matches
COPY = 0.95  # orientation from which an "ordinary" picture is a copy, and says nothing about ordinary ones


@dataclass(frozen=True, slots=True)
class Calibration:
    """What `calibrate` found.

    thresholds: to be used; pictures: how many ordinary ones they rest on; flagged: how many of these they
    would flag;
    copies: (number of the picture, id of the protected one, orientation) of those left out.
    """

    thresholds: Thresholds
    pictures: int
    flagged: int
    copies: tuple[tuple[int, str, float], ...]


def calibrate(
    copy_filter: CopyFilter, ordinary: Iterable[Tensor], *, share: float = SHARE, floors: Thresholds = FLOORS
) -> Calibration:
    """Thresholds at which ordinary pictures stay clear.

    Args:
        copy_filter: the filter; its second opinion is asked about every picture that comes near to a
            protected one, but its threshold is not fitted, since inliers of pictures that are no copies
            hardly differ between models.
        ordinary: pictures (3, H, W) in [0, 1] such as the model draws when nothing protected is asked for, at
            the sizes and settings that will be used; a few hundred at least.
        share: of them that each measure leaves clear.
        floors: a threshold is never lower.

    Returns:
        The thresholds with their evidence. Pictures that match a protected one above COPY are taken to be
        copies: they are left out, and named for somebody to look at.

    Raises:
        InputError: no picture, or one that cannot be looked at.
    """
    unlimited = replace(copy_filter, threshold=math.inf)  # so that a second opinion is always asked
    values: list[tuple[float, float, int]] = []
    copies: list[tuple[int, str, float]] = []
    for number, picture in enumerate(ordinary):
        evidence = [(m.id, m.evidence) for m in unlimited.look(picture[None])[0] if m.evidence is not None]
        best = max(evidence, key=lambda pair: pair[1].orientation, default=None)
        if best is not None and best[1].orientation > COPY:
            copies.append((number, best[0], best[1].orientation))
            continue
        values.append(
            (
                best[1].orientation if best is not None else 0.0,
                max((e.soft for _, e in evidence), default=0.0),
                max((e.inliers or 0 for _, e in evidence), default=0),
            )
        )
    if not values:
        raise InputError("there is no ordinary picture to calibrate on, or all of them are copies")
    orientation = max(floors.orientation, _point([v[0] for v in values], share))
    soft = max(floors.soft, _point([v[1] for v in values], share))
    thresholds = replace(floors, orientation=orientation, soft=soft)
    flagged = sum(
        a >= thresholds.orientation or c >= thresholds.soft or b >= thresholds.inliers for a, c, b in values
    )
    return Calibration(thresholds, len(values), flagged, tuple(copies))


def _point(values: list[float], share: float) -> float:
    """The smallest value above which at most 1 − share of the values lie."""
    ordered = sorted(values)
    return math.nextafter(ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)], math.inf)
