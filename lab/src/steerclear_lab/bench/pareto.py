"""Pareto fronts: which methods no other one beats in every respect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def fronts(points: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """The Pareto front that each point lies on.

    Args:
        points: by name, coordinates of which less is better.

    Returns:
        By name, 1 for those that no other point dominates, 2 for those that no other dominates once front 1
        is taken away, and so on.
    """
    remaining, front, ranks = dict(points), 0, dict[str, int]()
    while remaining:
        front += 1
        best = [name for name, p in remaining.items() if not any(dominates(q, p) for q in remaining.values())]
        for name in best:
            ranks[name] = front
            del remaining[name]
    return ranks


def dominates(point: Sequence[float], other: Sequence[float]) -> bool:
    """Whether a point is nowhere worse than another, and somewhere better."""
    pairs = list(zip(point, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)
