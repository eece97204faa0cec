"""The faults that the stability experiment counts, and the settings that are safe from them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from steerclear_lab.bench.experiments.common import Row, share
from steerclear_lab.bench.experiments.stability_settings import Setting

TOLERANCE = 0.01  # of J, which α = β = 1 hold between −2 and 2
LENGTHS = (0.5, 2.0)  # of the latent, × its start
TYPICAL = 0.05  # share of plain ordinary pictures that count as badly drawn
TOP = 5  # a concept counts as kept where the judge ranks it among this many
MARGIN = 0.125  # of the pictures: how many more than by default may have a fault where a setting is safe
FAULTS = ("not_finite", "diverged", "quality_lost", "drifted")


def classified(row: Row, typical: float) -> Row:
    """The row with its faults; a picture that could not be made has no further fault."""
    diverged = quality_lost = drifted = False
    if row["finite"]:
        low, high = LENGTHS
        diverged = row["j_after"] > row["j_before"] + TOLERANCE or not low <= row["length"] <= high
        quality_lost = row["typicality"] < typical
        drifted = row["rank"] is not None and row["rank"] >= TOP
    return row | {
        "not_finite": not row["finite"],
        "diverged": diverged,
        "quality_lost": quality_lost,
        "drifted": drifted,
    }


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The faults of each minimiser and setting, counted, and whether the setting is safe."""
    groups: dict[tuple[str, Setting], list[Row]] = {}
    names = [f.name for f in fields(Setting)]
    for row in rows:
        setting = Setting(**{name: row[name] for name in names})
        groups.setdefault((row["minimiser"], setting), []).append(row)
    counts = {key: {fault: sum(r[fault] for r in group) for fault in FAULTS} for key, group in groups.items()}
    figures = []
    for (minimiser, setting), group in groups.items():
        faults, default = counts[minimiser, setting], counts[minimiser, Setting()]
        measured = [r for r in group if "typicality" in r]
        typicalities = [r["typicality"] for r in measured]
        figures.append(
            {
                "minimiser": minimiser,
                **asdict(setting),
                "pictures": len(group),
                **faults,
                "safe": safe(faults, default, len(group)),
                "still_copies": share(r["copy"] for r in measured),
                "typicality": round(statistics.median(typicalities), 4) if measured else None,
            }
        )
    return figures


def safe(counts: Mapping[str, int], default: Mapping[str, int], pictures: int) -> bool:
    """Whether no picture is broken, and few more pictures than by default lost quality or drifted.

    Args:
        counts: faults of the setting.
        default: faults of the default setting.
        pictures: how many there are.
    """
    none_broken = counts["not_finite"] == counts["diverged"] == 0
    return none_broken and all(
        counts[fault] <= default[fault] + MARGIN * pictures for fault in ("quality_lost", "drifted")
    )


def safe_region(figures: Sequence[Mapping[str, Any]], minimiser: str) -> dict[str, list[float] | None]:
    """The range of values of each setting that are safe, around its default, the others at theirs.

    Args:
        figures: as `summary` returns them.
        minimiser: of MINIMISERS.

    Returns:
        By setting [least, largest] value such that all values between that were tried are safe; None where
        the default is not.
    """
    region: dict[str, list[float] | None] = {}
    default = asdict(Setting())
    for name in default:
        line = {f[name]: f["safe"] for f in line_of(figures, minimiser, name)}
        values = sorted(line)
        if not line.get(default[name], False):
            region[name] = None
            continue
        low = high = values.index(default[name])
        while low and line[values[low - 1]]:
            low -= 1
        while high + 1 < len(values) and line[values[high + 1]]:
            high += 1
        region[name] = [values[low], values[high]]
    return region


def line_of(figures: Sequence[Mapping[str, Any]], minimiser: str, name: str) -> list[Mapping[str, Any]]:
    """The figures of the settings of a minimiser in which at most this one is moved from its default."""
    fixed = {n: v for n, v in asdict(Setting()).items() if n != name}
    return [f for f in figures if f["minimiser"] == minimiser and all(f[n] == v for n, v in fixed.items())]
