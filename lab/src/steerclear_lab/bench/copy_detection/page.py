"""The copy detector's benchmark as a page: alterations × sets, false alarms with their bounds, and cost."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from steerclear.copy_detection import Evidence, Thresholds
from steerclear_lab.pages import render, table

Row = Mapping[str, Any]
METHODS = ("whole-picture filters", "torch only", "with OpenCV", "together")
LOOKED_AT = 16
CURVE = [round(0.8 + 0.025 * i, 3) for i in range(17)]  # of the score's threshold


def score(row: Row, thresholds: Thresholds, inliers: bool) -> float:
    """The score of a row, with or without the second opinion."""
    asked = row["inliers"] if inliers else None
    # rows that are older than the measure of wholes have none
    return thresholds.score(
        Evidence(row["orientation"], soft=row["soft"], inliers=asked, sameness=row.get("sameness", 0.0))
    )


def flagged(row: Row, method: str, thresholds: Thresholds) -> bool:
    """Whether a row's picture is flagged in one of METHODS."""
    whole = bool(row.get("whole"))
    if method == METHODS[0]:
        return whole
    copy_filter = score(row, thresholds, inliers=method != METHODS[1]) >= 1
    return copy_filter or (method == METHODS[3] and whole)


def exact_interval(hits: int, count: int) -> tuple[float, float]:
    """The exact two-sided 95 % interval of a share (Clopper–Pearson)."""
    from scipy.stats import binomtest

    bounds = binomtest(hits, count).proportion_ci(0.95)
    return float(bounds.low), float(bounds.high)


def reported(name: str, rows: Iterable[Row]) -> list[Row]:
    """The rows that the thresholds were not fitted to. name: of the set, with what is measured after a colon.

    Thresholds were chosen on every second item of the embedded set and of its other pictures; failures of the
    first LOOKED_AT stamps, and false alarms among every second of the stamps' other pictures, were looked at
    while the copy detector was built.
    """
    if name.startswith("embedded"):
        return [row for row in rows if row["number"] % 2 == 1]
    if name == "stamps: other pictures":
        return [row for row in rows if row["number"] % 2 == 0]
    return [row for row in rows if ":" in name or row["number"] >= LOOKED_AT]


def caught_by_kind(rows: Sequence[Row], thresholds: Thresholds) -> dict[str, dict[str, Any]]:
    """Caught of each kind and of all, by each method: kind → {"count", method: share}."""
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        kinds[row["kind"]].append(row)
    kinds["all"] = list(rows)
    return {
        kind: {
            "count": len(some),
            **{w: sum(flagged(r, w, thresholds) for r in some) / len(some) for w in METHODS},
        }
        for kind, some in kinds.items()
    }


def alarms(rows: Sequence[Row], thresholds: Thresholds) -> dict[str, Any]:
    """False alarms by each method of the copy detector: how many, of how many, and the exact interval of the
    rate.
    """
    result: dict[str, Any] = {"count": len(rows)}
    for method in METHODS[1:3]:
        hits = sum(flagged(row, method, thresholds) for row in rows)
        result[method] = {"flagged": hits, "interval": exact_interval(hits, len(rows))}
    return result


def curve(copies: Sequence[Row], others: Sequence[Row], thresholds: Thresholds) -> list[dict[str, float]]:
    """Caught and falsely flagged as the score's threshold moves, with OpenCV."""
    scores = [[score(row, thresholds, True) for row in rows] for rows in (copies, others)]
    return [
        {
            "threshold": t,
            "caught": sum(s >= t for s in scores[0]) / len(scores[0]),
            "false alarms": sum(s >= t for s in scores[1]) / len(scores[1]),
        }
        for t in CURVE
    ]


def summary(rows: Mapping[str, Any], thresholds: Thresholds) -> dict[str, Any]:
    """Everything that the page says, from the rows of the benchmark."""
    copies = dict(rows["copies"]) | {
        f"{k}, reported": reported(k, some) for k, some in rows["copies"].items()
    }
    others = dict(rows["others"]) | {
        f"{k}, reported": reported(k, some) for k, some in rows["others"].items()
    }
    caught = [r for name, some in rows["copies"].items() for r in reported(name, some)]
    innocent = [r for name, some in rows["others"].items() for r in reported(name, some)]
    return {
        "thresholds": {n: getattr(thresholds, n) for n in ("orientation", "soft", "inliers")},
        "copies": {name: caught_by_kind(some, thresholds) for name, some in copies.items()},
        "named": {name: sum(r["right"] for r in some) / len(some) for name, some in rows["copies"].items()},
        "others": {name: alarms(some, thresholds) for name, some in others.items() if some},
        "flagged others": {
            name: [dict(r) for r in some if flagged(r, METHODS[2], thresholds)]
            for name, some in rows["others"].items()
        },
        "missed": {
            name: [dict(r) for r in some if not flagged(r, METHODS[2], thresholds)]
            for name, some in rows["copies"].items()
        },
        "curve": curve(caught, innocent, thresholds) if innocent else [],
        "costs": rows["costs"],
        "scale": rows.get("scale", []),
        "plain": rows.get("plain"),
        "beside a generation": rows.get("beside a generation"),
        "environment": rows["environment"],
    }


def page(figures: Mapping[str, Any], sets: Sequence[str]) -> str:
    """The Markdown page.

    Args:
        figures: as `summary` gives them, and `plain` adds to them.
        sets: names of the protected sets, in the order of the columns.
    """
    return render(
        "copy-detection.md.j2",
        {
            "looked_at": LOOKED_AT,
            "thresholds": figures["thresholds"],
            "caught": _caught(figures["copies"], sets),
            "right": ", ".join(f"{figures['named'][name]:.1%} ({name})" for name in sets),
            "all_caught": _all_caught(figures["copies"], sets),
            "alarms": _alarms(figures["others"]),
            "flagged": figures["flagged others"],
            "plain": _plain(figures.get("plain")),
            "curve": table(
                ["threshold", "copies caught", "false alarms"],
                [
                    [str(row["threshold"]), f"{row['caught']:.2%}", f"{row['false alarms']:.2%}"]
                    for row in figures["curve"]
                ],
            ),
            "costs": figures["costs"],
            "scale": _scale(figures["scale"]),
            "generation": _generation(figures.get("beside a generation")),
            "environment": figures["environment"],
        },
    )


def _caught(copies: Mapping[str, Any], sets: Sequence[str]) -> str:
    """The share of each alteration that is caught of what is reported, by set and method."""
    columns = [copies[f"{name}, reported"] for name in sets]
    rows = []
    for kind in columns[0]:
        counts = ", ".join(str(column[kind]["count"]) for column in columns)
        rows.append(
            [
                f"{kind} ({counts})",
                *(f"{column[kind][method]:.1%}" for column in columns for method in METHODS),
            ]
        )
    return table(["alteration", *(f"{name}: {method}" for name in sets for method in METHODS)], rows)


def _all_caught(copies: Mapping[str, Any], sets: Sequence[str]) -> str:
    """What is caught of all copies, by method; of the sets of which not all is reported."""
    shares = []
    for name in sets:
        every = copies[name]["all"]
        if every != copies[f"{name}, reported"]["all"]:
            shares.append(
                f"{name} ({every['count']}) " + ", ".join(f"{every[method]:.1%}" for method in METHODS)
            )
    return "; ".join(shares)


def _alarms(others: Mapping[str, Any]) -> str:
    """The false alarms of each set; once where all of it is reported."""
    rows = []
    for name, alarms_of_set in others.items():
        count = alarms_of_set["count"]
        if others.get(f"{name}, reported", {}).get("count") == count:
            continue
        cells = []
        for method in METHODS[1:3]:
            low, high = alarms_of_set[method]["interval"]
            cells.append(f"{alarms_of_set[method]['flagged']} ({low:.2%}–{high:.2%})")
        rows.append([name, str(count), *cells])
    return table(["protected: others", "pictures", *METHODS[1:3]], rows)


def _plain(plain: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The figures of plain pictures as they are written, where they were measured."""
    if not plain:
        return None
    rows = []
    for name, row in plain["caught"].items():
        copies, missed = row["copies"], row["missed"]
        rows.append([name, str(copies), str(copies - len(missed)), ", ".join(missed) or "none"])
    return {
        **plain,
        "caught": table(["copy", "flags", "caught", "missed"], rows),
        "alike": [f"{r['picture']} as {r['protected']} ({r['sameness']:.2f})" for r in plain["alike"]],
    }


def _scale(rows: Sequence[Row]) -> str | None:
    """What is measured of libraries of each size, where it was measured."""
    return table(list(rows[0]), [list(map(str, row.values())) for row in rows]) if rows else None


def _generation(beside: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The cost of looking beside that of a generation as it is written, where it was measured."""
    if not beside:
        return None
    rows = [[size, str(row["ms"]), f"{row['share']:.3%}"] for size, row in beside["items"].items()]
    return {
        "pictures": beside["pictures"],
        "seconds": beside["seconds of a generation"],
        "looking": table(["items", "ms", "share of the generation"], rows),
    }


def write(rows: Mapping[str, Any], out: Path, thresholds: Thresholds | None = None) -> dict[str, Any]:
    """Write copy-detection.json and copy-detection.md from the rows of the benchmark; returns the summary."""
    figures = summary(rows, thresholds or Thresholds())
    out.mkdir(parents=True, exist_ok=True)
    (out / "copy-detection.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "copy-detection.md").write_text(page(figures, list(rows["copies"])))
    return figures
