"""Prevention by the paper's threshold: how many pictures lie within pixel L2 0.1 of a protected one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from steerclear.plots import CLEAN, COPIES, LINE
from steerclear_lab.bench.experiments.common import Options, percent, share
from steerclear_lab.bench.experiments.comparison import comparison_document, methods_with, source
from steerclear_lab.bench.harness import PLAIN
from steerclear_lab.bench.rivals_plots import THRESHOLD, drawing, png
from steerclear_lab.bench.rivals_tables import cell
from steerclear_lab.bench.summary import request_key
from steerclear_lab.pages import render, table

TITLE = "Prevention, by the paper's threshold"


def measure(options: Options) -> dict[str, Any]:
    """The distances of every planted picture before, and after each method."""
    comparison = comparison_document(options)
    names = methods_with(comparison)
    rows = [r for r in comparison["rows"] if r["phase"] == "test" and r["kind"] == "memorized"]
    plain = {request_key(r): r for r in rows if r["method"] == PLAIN}
    lines: list[dict[str, Any]] = [
        {"prompt": r["prompt"], "seed": r["seed"], "before": r["pixel_l2"], "after": {}}
        for r in plain.values()
    ]
    place = dict(zip(plain, lines, strict=True))
    for row in rows:
        if row["method"] in names and row["method"] != PLAIN:
            place[request_key(row)]["after"][row["method"]] = row["pixel_l2"] if row["handed_out"] else None
    methods = {}
    for name in names:
        figures = comparison["methods"][name]["memorized"]
        methods[name] = {
            **distances(lines, name),
            "prompts": figures["prompts"],
            "within": figures["pixel_rate"],
            "tiled": figures["tiled_rate"],
            "same_clip": figures["same_clip_rate"],
        }
    return {"source": source(comparison), "threshold": THRESHOLD, "methods": methods, "rows": lines}


def distances(rows: list[dict[str, Any]], method: str) -> dict[str, Any]:
    """The distances of what a method handed out to the nearest protected picture.

    Args:
        rows: the distance of each request's picture before and after each method.
        method: its name.

    Returns:
        How many pictures there are; how many within the threshold before, and of those still within it after;
        the median and the least distance after.
    """
    pairs = [(r["before"], r["before"] if method == PLAIN else r["after"].get(method)) for r in rows]
    handed_out = [after for _, after in pairs if after is not None]
    within = [after for before, after in pairs if before < THRESHOLD]
    return {
        "pictures": len(pairs),
        "handed_out": len(handed_out),
        "within_before": share(before < THRESHOLD for before, _ in pairs),
        "still_within": share(after is not None and after < THRESHOLD for after in within),
        "median": round(statistics.median(handed_out), 4) if handed_out else None,
        "least": min(handed_out, default=None),
    }


def section(document: Mapping[str, Any]) -> str:
    """The experiment's section as Markdown, without its title."""
    methods = document["methods"]
    plain = methods[PLAIN]
    rows = [
        [
            name,
            str(figures["pictures"]),
            str(figures["handed_out"]),
            cell(figures["within"]),
            percent(figures["still_within"]),
            cell(figures["median"]),
            cell(figures["least"]),
            cell(figures["tiled"]),
            cell(figures["same_clip"]),
        ]
        for name, figures in methods.items()
    ]
    header = [
        "method",
        "requests",
        "handed out",
        f"within {THRESHOLD:g}",
        "of those within it before, still within",
        "median L2",
        "least L2",
        "tiled",
        "same, CLIP",
    ]
    values = {
        "threshold": f"{THRESHOLD:g}",
        "pictures": plain["pictures"],
        "prompts": plain["prompts"],
        "within_before": percent(plain["within_before"]),
        "table": table(header, rows),
    }
    return render("prevention.md.j2", values)


def figure(document: Mapping[str, Any]) -> bytes:
    """Histograms of the distances before and after, one panel for each method; PNG bytes."""
    names = [name for name in document["methods"] if name != PLAIN]
    figure = drawing(4.2 * len(names), 3)
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    bins = [i / 50 for i in range(31)]
    before = [r["before"] for r in document["rows"]]
    for panel, name in zip(panels, names, strict=True):
        after = [r["after"][name] for r in document["rows"] if r["after"].get(name) is not None]
        panel.hist(before, bins, color=CLEAN, alpha=0.5, label="before")
        panel.hist(after, bins, color=COPIES, alpha=0.6, label="after")
        panel.axvline(document["threshold"], color=LINE, linestyle="--", linewidth=0.8)
        panel.set(title=name, xlabel="pixel L2 to the nearest protected picture")
        panel.legend(fontsize=8)
    panels[0].set_ylabel("pictures")
    return png(figure)
