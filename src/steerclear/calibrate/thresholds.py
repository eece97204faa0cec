"""Thresholds of a library's filters at a false-positive rate that the user states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import torch

from steerclear.conformal import CONFIDENCE, Bounded, auc, bounded_threshold, upper_rate
from steerclear.copy_detection import STRICT

# share of ordinary generations that the strict thresholds for steered pictures would flag
STRICT_FLAGGED = 0.03
# filter → lowest threshold, and lowest strict one: below these, matches are chance
FLOORS = {"copy": (1.0, STRICT)}


def bounded_thresholds(clean: Mapping[str, Sequence[float]], fpr: float) -> dict[str, Bounded]:
    """Choose each filter's threshold at a false-positive rate, by `bounded_threshold`, not below FLOORS.

    Args:
        clean: filter name → scores of pictures that must not be flagged.
        fpr: the highest false-positive rate, in (0, 1).

    Returns:
        Filter name → threshold with its evidence.

    Raises:
        InputError: for no scores, or scores that are not finite.
        ConfigError: for a rate outside (0, 1).
    """
    return {name: _floored(name, bounded_threshold(scores, fpr), scores) for name, scores in clean.items()}


def calibration(
    bounds: Mapping[str, Bounded],
    clean: Mapping[str, Sequence[float]],
    copies: Mapping[str, Sequence[float]],
) -> dict[str, Any]:
    """A library's calibration: thresholds, strict thresholds, and the evidence for them.

    Strict thresholds, for steered pictures, are where STRICT_FLAGGED of the clean pictures would be flagged,
    not below FLOORS.

    Args:
        bounds: of `bounded_thresholds`.
        clean: filter name → scores of pictures that must not be flagged; the same pictures in the same order
            for every filter.
        copies: the same of pictures that should be flagged.

    Returns:
        `thresholds`, `strict` and `evidence`.
    """
    thresholds = {name: bound.threshold for name, bound in bounds.items()}
    strict = {name: _strict(name, thresholds[name], scores) for name, scores in clean.items()}
    by_filter = {
        name: {
            **asdict(bound),
            "copies_flagged": _share_flagged([[score >= bound.threshold] for score in copies[name]]),
            "auc": round(auc(copies[name], clean[name]), 4),
            "curve": _curve(clean[name], copies[name]),
        }
        for name, bound in bounds.items()
    }
    flagged_clean, flagged_copies = (
        [
            [score >= thresholds[name] for name, score in zip(scores, picture_scores, strict=True)]
            for picture_scores in zip(*scores.values(), strict=True)
        ]
        for scores in (clean, copies)
    )
    evidence = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "fpr": next(iter(bounds.values())).fpr,
        "confidence": CONFIDENCE,
        "clean": len(flagged_clean),
        "copies": len(flagged_copies),
        "clear_exceeding": sum(map(any, flagged_clean)),
        "clear_flagged": _share_flagged(flagged_clean),
        "clear_upper": upper_rate(sum(map(any, flagged_clean)), len(flagged_clean)),
        "copies_flagged": _share_flagged(flagged_copies),
        "by_filter": by_filter,
    }
    return {"thresholds": thresholds, "strict": strict, "evidence": evidence}


def _floored(name: str, bound: Bounded, scores: Sequence[float]) -> Bounded:
    """The bound of a filter's threshold, or that of the filter's floor where this is higher."""
    floor = FLOORS.get(name, (-math.inf,))[0]
    if bound.threshold >= floor:
        return bound
    exceeding = sum(score >= floor for score in scores)
    return replace(
        bound,
        threshold=floor,
        exceeding=exceeding,
        upper=upper_rate(exceeding, bound.n),
    )


def _strict(name: str, threshold: float, scores: Sequence[float]) -> float:
    """A filter's threshold for steered pictures. scores: of clean pictures."""
    floor = FLOORS.get(name, (-math.inf, -math.inf))[1]
    return min(threshold, max(floor, float(torch.tensor(scores).quantile(1 - STRICT_FLAGGED))))


def _share_flagged(flags: Sequence[Sequence[bool]]) -> float:
    """Share of the pictures that any filter flags. flags: for each picture, each filter's answer."""
    return round(sum(map(any, flags)) / len(flags), 4) if flags else 0.0


def _curve(clean: Sequence[float], copies: Sequence[float], points: int = 21) -> list[dict[str, float]]:
    """What share of each is flagged, over thresholds from the lowest score to the highest."""
    low, high = min(*clean, *copies), max(*clean, *copies)
    thresholds = [low + (high - low) * i / (points - 1) for i in range(points)]
    return [
        {
            "threshold": round(threshold, 4),
            "clean": _share_flagged([[score >= threshold] for score in clean]),
            "copies": _share_flagged([[score >= threshold] for score in copies]),
        }
        for threshold in thresholds
    ]
