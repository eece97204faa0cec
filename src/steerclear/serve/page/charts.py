"""Histograms as SVG: shapes alone, coloured by the page's style sheet, so that no style is inline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 200
BASE, TOP = 170, 14  # where a bar stands, and where the highest ends
MARGIN = 12


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        x: its left side.
        y: its upper end.
        width: in the chart's units.
        height: in the chart's units.
        says: what it stands for, in words.
    """

    x: float
    y: float
    width: float
    height: float
    says: str


@dataclass(frozen=True)
class Histogram:
    """Two groups' scores, and two thresholds.

    Attributes:
        clean: bars of the pictures that must not be flagged.
        copies: bars of those that should be.
        threshold: where the calibrated one stands.
        tried: where the one stands that is asked about.
        ticks: places and texts below the axis.
        width: of the whole.
        height: of the whole.
        base: where the axis lies.
        top: where the highest bar ends.
    """

    clean: Sequence[Bar]
    copies: Sequence[Bar]
    threshold: float
    tried: float
    ticks: Sequence[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    base: int = BASE
    top: int = TOP


def histogram(
    curve: Sequence[Mapping[str, float]], *, low: float, high: float, threshold: float, tried: float
) -> Histogram:
    """The histogram that belongs to a calibration's curve.

    Args:
        curve: shares at or above each of some thresholds, from the lowest to the highest: what lies between
            two of them is the difference.
        low: left end of the scale.
        high: right end of the scale.
        threshold: of the calibration.
        tried: another one.
    """

    def x(score: float) -> float:
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (score - low) / (high - low), 1)

    shares = {group: _shares(curve, group) for group in ("clean", "copies")}
    highest = max(*(share for row in shares.values() for share in row), 1e-9)
    bars: dict[str, list[Bar]] = {"clean": [], "copies": []}
    for group, row in shares.items():
        for i, share in enumerate(row):
            left = float(curve[i]["threshold"])
            right = float(curve[min(i + 1, len(curve) - 1)]["threshold"])
            width = max(2.0, (x(right) - x(left)) / 2 - 1)
            height = round((BASE - TOP) * share / highest, 1)
            if share > 0:
                at = x(left) + (0 if group == "clean" else width)
                says = f"{group}: {100 * share:.3g} % from {left:.4g} to {right:.4g}"
                bars[group].append(
                    Bar(
                        round(at, 1),
                        y=round(BASE - height, 1),
                        width=round(width, 1),
                        height=height,
                        says=says,
                    )
                )
    ticks = [(x(low + (high - low) * i / 4), f"{low + (high - low) * i / 4:.3g}") for i in range(5)]
    return Histogram(
        bars["clean"], copies=bars["copies"], threshold=x(threshold), tried=x(tried), ticks=ticks
    )


def _shares(curve: Sequence[Mapping[str, float]], group: str) -> list[float]:
    """The share between each point of a curve and the next; the last holds what is at the end."""
    at = [float(row[group]) for row in curve]
    return [max(0.0, here - beyond) for here, beyond in zip(at, [*at[1:], 0.0], strict=True)]
