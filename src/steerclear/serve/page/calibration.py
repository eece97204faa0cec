"""`/calibration`: the scores behind each threshold, and what another one would have flagged."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from steerclear.serve.page.charts import Histogram, histogram
from steerclear.serve.page.html import PageRoute, page
from steerclear.serve.page.visit import Visitor, visitor

if TYPE_CHECKING:
    from steerclear.records import LoggedIncident
    from steerclear.serve.server import Server

router = APIRouter(prefix="/calibration", route_class=PageRoute)

MOST_INCIDENTS = 1000  # whose scores are looked at, the newest
LAST = 2**62

Reading = Annotated[Visitor, Depends(visitor("review", "admin"))]


@dataclass(frozen=True)
class Recorded:
    """What recorded incidents would have been at a threshold.

    Attributes:
        name: what a reviewer has said of them.
        flagged: how many reach the threshold.
        of: how many have a score of this filter.
    """

    name: str
    flagged: int
    of: int


@dataclass(frozen=True)
class Panel:
    """One filter.

    Attributes:
        name: of the filter.
        threshold: of the library's calibration.
        strict: for steered pictures; None where there is none.
        tried: the threshold that is asked about.
        low: of the scale.
        high: of the scale.
        step: of the slider.
        chart: the histogram; None where the calibration holds no curve.
        evidence: the filter's figures in the calibration.
        clean: bounds of the share of clean pictures that the tried threshold flags; None without a curve.
        copies: the same of copies.
        recorded: the same counted on recorded incidents.
    """

    name: str
    threshold: float
    strict: float | None
    tried: float
    low: float
    high: float
    step: float
    chart: Histogram | None
    evidence: Mapping[str, Any]
    clean: tuple[float, float] | None
    copies: tuple[float, float] | None
    recorded: Sequence[Recorded]


@router.get("")
async def calibration(request: Request, who: Reading) -> Response:
    """All filters."""
    note, incidents = await _known(request)
    tried = {name: _number(value) for name, value in request.query_params.items()}
    panels = [
        _panel(note, name=name, tried=tried.get(name), incidents=incidents)
        for name in note.get("thresholds", {})
    ]
    evidence = note.get("evidence", {})
    return page(request, "calibration", {"panels": panels, "evidence": evidence, "calibrated": bool(note)})


@router.get("/{name}")
async def one_filter(name: str, request: Request, who: Reading) -> Response:
    """One filter at another threshold: the part of the page that changes."""
    note, incidents = await _known(request)
    if name not in note.get("thresholds", {}):
        return page(request, "_nothing", status=404)
    tried = _number(request.query_params.get(name, ""))
    return page(request, "_panel", {"panel": _panel(note, name=name, tried=tried, incidents=incidents)})


async def _known(request: Request) -> tuple[dict[str, Any], Sequence[LoggedIncident]]:
    """The library's calibration, and the newest incidents."""
    server: Server = request.app.state.server

    def read() -> tuple[dict[str, Any], Sequence[LoggedIncident]]:
        note = server.library.read_note("calibration") or {}
        if server.records is None:
            return note, ()
        return note, server.records.incidents.list(before=LAST, limit=MOST_INCIDENTS)

    return await asyncio.to_thread(read)


def _panel(
    note: Mapping[str, Any], name: str, tried: float | None, incidents: Sequence[LoggedIncident]
) -> Panel:
    threshold = float(note["thresholds"][name])
    evidence = note.get("evidence", {}).get("by_filter", {}).get(name, {})
    curve = evidence.get("curve") or []
    points = [*curve, *_at_threshold(evidence)]
    scores = _scores(name, incidents)
    cuts = [row["threshold"] for row in curve] or [score for _, score in scores]
    low, high = min([threshold, *cuts]), max([threshold, *cuts])
    if low == high:
        low, high = low - 0.5, high + 0.5
    at = threshold if tried is None else min(high, max(low, tried))
    return Panel(
        name=name,
        threshold=threshold,
        strict=note.get("strict", {}).get(name),
        tried=at,
        low=low,
        high=high,
        step=10.0 ** math.floor(math.log10((high - low) / 100)),
        chart=histogram(curve, low=low, high=high, threshold=threshold, tried=at) if curve else None,
        evidence=evidence,
        clean=_between(points, "clean", at) if curve else None,
        copies=_between(points, "copies", at) if curve else None,
        recorded=_recorded(scores, at),
    )


def _at_threshold(evidence: Mapping[str, Any]) -> list[Mapping[str, float]]:
    """The curve's point at the threshold itself, which the calibration has counted exactly."""
    if not {"threshold", "exceeding", "n", "copies_flagged"} <= evidence.keys():
        return []
    clean = evidence["exceeding"] / evidence["n"]
    return [{"threshold": evidence["threshold"], "clean": clean, "copies": evidence["copies_flagged"]}]


def _between(curve: Sequence[Mapping[str, float]], which: str, at: float) -> tuple[float, float]:
    """Bounds of the share that is flagged at a threshold, from the points on either side of it.

    The share falls with the threshold, so it lies between them. A calibration keeps no single scores.
    """
    above = [row[which] for row in curve if row["threshold"] >= at]
    below = [row[which] for row in curve if row["threshold"] <= at]
    return max(above, default=0.0), min(below, default=1.0)


def _scores(name: str, incidents: Sequence[LoggedIncident]) -> list[tuple[str, float]]:
    """What reviewers said of incidents, and the score that a filter gave to each one's first picture."""
    rows: list[tuple[str, float]] = []
    for row in incidents:
        said = row.decided.decision if row.decided else "undecided"
        for detection in row.incident.report.get("detections", ()):
            score = detection.get("score")
            if detection.get("filter") == name and isinstance(score, int | float) and math.isfinite(score):
                rows.append((said, float(score)))
    return rows


def _recorded(scores: Sequence[tuple[str, float]], at: float) -> list[Recorded]:
    names = {"copy": "confirmed copies", "no_copy": "overruled, no copies", "undecided": "not decided yet"}
    rows = []
    for key, name in names.items():
        of_kind = [score for said, score in scores if said == key]
        rows.append(Recorded(name, sum(score >= at for score in of_kind), len(of_kind)))
    return rows


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
