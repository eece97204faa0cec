"""The Markdown page of `guarded_size`."""

from __future__ import annotations

import statistics

from steerclear_lab.bench.documents import Row
from steerclear_lab.pages import render, table

TARGET = 1.02  # of a clear request's wall time, × plain


def page(rows: list[Row]) -> str:
    """The Markdown page. Weights and the source of pictures decide no figure.

    Args:
        rows: as `guarded-size.json` keeps them.
    """
    rows = sorted(rows, key=lambda row: (row["device"], row["config"], row["mode"], row["stored"]))
    return render(
        "guarded-size.md.j2",
        {
            "commands": [row["command"] for row in rows],
            "torch": ", ".join(sorted({row["torch"] for row in rows})),
            "clear": _clear([row for row in rows if "clear" in row]),
            "flagged": _flagged([row for row in rows if "strategies" in row]),
            "notes": _notes(rows),
            "target": TARGET,
            "slow": [_named(row) for row in rows if "clear" in row and row["clear"]["ratio"] > TARGET],
        },
    )


def _notes(rows: list[Row]) -> list[str]:
    """Each note once, with the rows that it is about."""
    about: dict[str, list[str]] = {}
    for row in rows:
        if row["note"]:
            about.setdefault(row["note"], []).append(f"{_named(row)}, {row['steps']} steps")
    return [f"{'; '.join(named)}: {note}." for note, named in about.items()]


def _named(row: Row) -> str:
    """A configuration in words."""
    mode = "" if row["mode"] == "plain" else f", {row['mode'].replace('-', ' ')}"
    return f"{row['config']}, {row['side']} px, {row['stored']}{mode}"


def _clear(rows: list[Row]) -> str:
    """What a clear request costs."""
    cells = []
    for row in rows:
        clear = row["clear"]
        cells.append(
            [
                _named(row),
                row["device"],
                str(row["steps"]),
                f"{statistics.median(clear['plain_s']):.3f}",
                f"{statistics.median(clear['guarded_s']):.3f}",
                f"{clear['ratio']:.3f}",
                str(clear["plain_differs"]),
                str(clear["guarded_differs"]),
            ]
        )
    header = [
        "model",
        "device",
        "steps",
        "plain, s",
        "guarded, s",
        "× plain",
        "plain differs",
        "guarded differs",
    ]
    return table(header, cells)


def _flagged(rows: list[Row]) -> str:
    """What each strategy made of a flagged request: seconds and peak memory, or why it failed."""
    names = list(dict.fromkeys(name for row in rows for name in row["strategies"]))
    cells = [[_named(row), *(_cell(row["strategies"].get(name)) for name in names)] for row in rows]
    return table(["model", *names], cells)


def _cell(result: Row | None) -> str:
    """One strategy's result."""
    if result is None:
        return "–"
    if result["outcome"] != "steered":
        return str(result["stopped"]).replace("|", "/")
    memory = "" if result["peak_gib"] is None else f", {result['peak_gib']:.1f} GiB"
    return f"{result['seconds']:.1f} s{memory}"
