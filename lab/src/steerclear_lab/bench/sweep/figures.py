"""The figures of the sweep's page, from its rows and what the judges say."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.intervals import exact_interval, quantile, share
from steerclear_lab.bench.sweep.judges import JUDGES, Values
from steerclear_lab.bench.sweep.verdicts import severity, taken_for_copy

OUTCOMES = ("clear", "steered", "withheld", "refused")
LABELS = ("copy", "derivative", "neither")
WORST = 48


def summary(rows: Sequence[Row], planned: Mapping[str, int]) -> dict[str, Row]:
    """Figures by group, and of all groups together.

    Args:
        rows: with "copy_by", the judges that take what was handed out for a copy.
        planned: how many requests each group has when the run is complete.
    """
    grouped = {group: [row for row in rows if row["group"] == group] for group in planned}
    figures = {group: {**_of(some), "planned": planned[group]} for group, some in grouped.items()}
    return {**figures, "all": {**_of(rows), "planned": sum(planned.values())}}


def by_variant(rows: Iterable[Row]) -> list[Row]:
    """Figures by setting, in the order of the rows."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row["group"], row["variant"]), []).append(row)
    return [{"group": group, "variant": variant, **_of(some)} for (group, variant), some in grouped.items()]


def _of(rows: Sequence[Row]) -> Row:
    """Figures of some requests."""
    overheads = [row["overhead"] for row in rows if "overhead" in row]
    prompts = {row["file"] for row in rows}
    copied = {row["file"] for row in rows if row.get("copy_by")}
    return {
        "requests": len(rows),
        **{outcome: sum(row["outcome"] == outcome for row in rows) for outcome in OUTCOMES},
        "overhead median": round(statistics.median(overheads), 2) if overheads else None,
        "overhead p95": round(quantile(overheads, 0.95), 2) if overheads else None,
        "copies": sum(bool(row.get("copy_by")) for row in rows),
        **{judge: sum(judge in row.get("copy_by", ()) for row in rows) for judge in JUDGES},
        "prompts": len(prompts),
        "prompts with a copy": len(copied),
        "bound": [round(b, 4) for b in exact_interval(len(copied), len(prompts))] if prompts else None,
    }


def reliability(
    chosen_on: Sequence[Values], others: Sequence[Values], at: Mapping[str, float], altered: Sequence[Row]
) -> Row:
    """How far the judges can be trusted.

    Args:
        chosen_on: what they say of the ordinary pictures that the thresholds were chosen on.
        others: the same of the others, which say how often a judge is wrong.
        at: the thresholds.
        altered: a row per known copy, with "kind" and "copy_by".

    Returns:
        False alarms of each judge and of any, and the share of known copies that each finds, kind by kind.
    """
    wrong = [taken_for_copy(values, at) for values in others]
    alarms = {judge: sum(judge in by for by in wrong) for judge in JUDGES} | {"any": sum(map(bool, wrong))}
    kinds: dict[str, list[Row]] = {}
    for row in altered:
        kinds.setdefault(row["kind"], []).append(row)
    return {
        "thresholds": dict(at),
        "chosen on": len(chosen_on),
        "tested on": len(others),
        "false alarms": alarms,
        "false alarms of any, interval": [
            round(bound, 4) for bound in exact_interval(alarms["any"], len(others))
        ]
        if others
        else None,
        "known copies": [
            {
                "kind": kind,
                "pictures": len(some),
                **{judge: share(judge in row["copy_by"] for row in some) for judge in JUDGES},
                "any": share(row["copy_by"] for row in some),
            }
            for kind, some in kinds.items()
        ],
    }


def worst(rows: Iterable[Row], at: Mapping[str, float], labels: Mapping[str, Any]) -> list[Row]:
    """The pictures handed out that come nearest to a judge's threshold, with their labels by eye.

    Args:
        rows: with "judges" where a picture was handed out.
        at: the thresholds.
        labels: "copy", "derivative" or "neither" by `label_key`; others are not labelled yet.
    """
    handed = [row for row in rows if row.get("judges")]
    ranked = sorted(handed, key=lambda row: -severity(row["judges"], at))[:WORST]
    return [
        {
            "key": row["key"],
            "group": row["group"],
            "variant": row["variant"],
            "asked_for": row["file"],
            "outcome": row["outcome"],
            "like": _like(row["judges"], at),
            "severity": round(severity(row["judges"], at), 4),
            "picture": row["picture"],
            "label": labels.get(label_key(row)),
        }
        for row in ranked
    ]


def label_key(row: Mapping[str, Any]) -> str:
    """What a label by eye belongs to: this picture of this request, and no other that it gets later."""
    return f"{row['key']}:{row['picture']}"


def _like(values: Values, at: Mapping[str, float]) -> str:
    """The protected picture that the judge nearest to its threshold names."""
    named = [judge for judge in JUDGES if f"{judge}_of" in values]
    judge = max(named, key=lambda name: float(values[name]) / at[name])
    return str(values[f"{judge}_of"])
