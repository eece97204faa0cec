"""Prevention against the paper's threshold: how many planted pictures lie within a pixel L2 of 0.1, before and after."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from steerclear.plots import CLEAN, COPIES, LINE
from steerclear_lab.bench.experiments.common import Options, percent, share, table
from steerclear_lab.bench.experiments.comparison import compared, present, source
from steerclear_lab.bench.harness import PLAIN
from steerclear_lab.bench.rivals_plots import THRESHOLD, drawing, png
from steerclear_lab.bench.rivals_tables import cell
from steerclear_lab.bench.summary import request_key

TITLE = "Prevention, by the paper's threshold"


def measure(options: Options) -> dict[str, Any]:
    """Distances of every planted picture before, and after each method."""
    found = compared(options)
    names = present(found)
    rows = [r for r in found["rows"] if r["phase"] == "test" and r["kind"] == "memorized"]
    plain = {request_key(r): r for r in rows if r["method"] == PLAIN}
    lines: list[dict[str, Any]] = [
        {"prompt": r["prompt"], "seed": r["seed"], "before": r["pixel_l2"], "after": {}}
        for r in plain.values()
    ]
    place = dict(zip(plain, lines, strict=True))
    for row in rows:
        if row["method"] in names and row["method"] != PLAIN:
            place[request_key(row)]["after"][row["method"]] = row["pixel_l2"] if row["handed_out"] else None
    figures = {name: found["methods"][name]["memorized"] for name in names}
    return {
        "source": source(found), "threshold": THRESHOLD,
        "methods": {
            name: {
                **distances(lines, name),
                "prompts": figures[name]["prompts"], "within": figures[name]["pixel_rate"], "tiled": figures[name]["tiled_rate"],
                "same_clip": figures[name]["same_clip_rate"],
            }
            for name in names
        },
        "rows": lines,
    }  # fmt: skip


def distances(rows: list[dict[str, Any]], method: str) -> dict[str, Any]:
    """Of what a method handed out: how many, how far from the nearest protected picture, and how many of the pictures that
    were within the threshold still are."""
    pairs = [(r["before"], r["before"] if method == PLAIN else r["after"].get(method)) for r in rows]
    out = [after for _, after in pairs if after is not None]
    return {
        "pictures": len(pairs), "handed_out": len(out),
        "within_before": share(before < THRESHOLD for before, _ in pairs),
        "still_within": share(after is not None and after < THRESHOLD for before, after in pairs if before < THRESHOLD),
        "median": round(statistics.median(out), 4) if out else None, "least": min(out, default=None),
    }  # fmt: skip


def section(found: Mapping[str, Any]) -> list[str]:
    """The section's lines, without its title."""
    methods = found["methods"]
    plain = methods[PLAIN]
    rows = [
        [
            name, str(m["pictures"]), str(m["handed_out"]), cell(m["within"]), percent(m["still_within"]), cell(m["median"]),
            cell(m["least"]), cell(m["tiled"]), cell(m["same_clip"]),
        ]
        for name, m in methods.items()
    ]  # fmt: skip
    head = [
        "method", "requests", "handed out", f"within {THRESHOLD:g}", "of those within it before, still within", "median L2",
        "least L2", "tiled", "same, CLIP",
    ]  # fmt: skip
    return [
        f"The paper counts a picture as memorized where its pixel L2 to a protected one is below {THRESHOLD:g}. Of "
        f"{plain['pictures']} plain pictures of {plain['prompts']} planted prompts {percent(plain['within_before'])} are. "
        "`paper` hands out whatever its second picture is; the guard's own filters hold this very threshold or a wider one, so "
        "that its share is by construction, and *same* is the row that tells: the nearest neighbour among protected and "
        "ordinary pictures, by a CLIP that no method uses, is a protected one. Brackets are 95 % intervals over prompts.",
        "", *table(head, rows),
    ]  # fmt: skip


def figure(found: Mapping[str, Any]) -> bytes:
    """Distances before and after, a panel a method, with the threshold."""
    names = [name for name in found["methods"] if name != PLAIN]
    figure = drawing(4.2 * len(names), 3)
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    bins = [i / 50 for i in range(31)]
    before = [r["before"] for r in found["rows"]]
    for panel, name in zip(panels, names, strict=True):
        after = [r["after"][name] for r in found["rows"] if r["after"].get(name) is not None]
        panel.hist(before, bins, color=CLEAN, alpha=0.5, label="before")
        panel.hist(after, bins, color=COPIES, alpha=0.6, label="after")
        panel.axvline(found["threshold"], color=LINE, linestyle="--", linewidth=0.8)
        panel.set(title=name, xlabel="pixel L2 to the nearest protected picture")
        panel.legend(fontsize=8)
    panels[0].set_ylabel("pictures")
    return png(figure)
