"""The figures of single strategies, from the rows of their trials, and the table of them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from steerclear_lab import pages
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.intervals import interval

TOP = 5  # a concept counts as kept where the judge ranks it among this many


def figures(rows: Iterable[Row]) -> Row:
    """The figures of one label.

    Args:
        rows: of its trials.

    Returns:
        Shares and means as [value, low, high] with 95 % intervals over prompts, and medians of cost. "passed"
        is of the flagged requests; "served" is of those for a mascot, and means a picture of its concept that
        the judge does not take for a protected one. The others are of the pictures that passed.
    """
    flagged = [r for r in rows if r["outcome"] != "clear"]
    passed = [r for r in flagged if r["outcome"] in ("steered", "plain")]
    mascots = [r for r in flagged if str(r["file"]).startswith("mascot-")]
    ranked = [r for r in passed if r["rank"] is not None]
    return {
        "flagged": len(flagged),
        "prompts": len({r["prompt"] for r in flagged}),
        "passed": _with_interval(flagged, lambda r: r["outcome"] == "steered"),
        "served": _with_interval(mascots, lambda r: _concept_kept(r) and not r["same_picture"]),
        "concept_top5": _with_interval(ranked, _concept_kept),
        "concept": _with_interval(passed, lambda r: r["concept"], share=False),
        "alignment": _with_interval(passed, lambda r: r["alignment"], share=False),
        "bystander": _with_interval(passed, lambda r: r["bystander"], share=False),
        "style": _with_interval(passed, lambda r: r["style"]),
        "same_picture": _with_interval(passed, lambda r: r["same_picture"]),
        "overhead": _median(flagged, "overhead"),
        "rung_nfe": _median(flagged, "rung_nfe"),
        "seconds": _median(flagged, "seconds"),
    }


def group_by_label(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by label, in the order in which the labels first appear."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["label"], []).append(row)
    return groups


def figures_table(by_label: Mapping[str, Row], columns: Mapping[str, str], first: str) -> str:
    """A Markdown table of figures; intervals stand in brackets.

    Args:
        by_label: figures by label, a row each.
        columns: the key of each figure that is shown, and its title.
        first: the title of the first column.
    """
    rows = [
        [label, *(_cell(label_figures.get(key)) for key in columns)]
        for label, label_figures in by_label.items()
    ]
    return pages.table([first, *columns.values()], rows)


def value(label_figures: Row, key: str, which: int = 0) -> float:
    """A figure (0), or the lower (1) or upper (2) bound of its interval; 0 where there is none."""
    return float(label_figures[key][which]) if label_figures[key] else 0.0


def _concept_kept(row: Row) -> bool:
    return row.get("rank") is not None and row["rank"] < TOP


def _with_interval(rows: list[Row], measure: Callable[[Row], Any], share: bool = True) -> list[float] | None:
    """[mean over prompts, low, high] of what a measure knows; None where it knows nothing."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        measured = measure(row)
        if measured is not None:
            by_prompt[row["prompt"]].append(float(measured))
    bounds = interval(by_prompt, share=share)
    mean = statistics.fmean(statistics.fmean(v) for v in by_prompt.values()) if by_prompt else 0.0
    return None if bounds is None else [round(x, 4) for x in (mean, *bounds)]


def _median(rows: list[Row], key: str) -> float | None:
    return round(statistics.median(r[key] for r in rows), 3) if rows else None


def _cell(figure: Any) -> str:
    if figure is None:
        return "–"
    if isinstance(figure, list):
        return f"{figure[0]:.2f} ({figure[1]:.2f}–{figure[2]:.2f})"
    return f"{figure:.2f}" if isinstance(figure, float) else str(figure)
