"""The section and the figure of the stability experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from steerclear.plots import CLEAN, COPIES
from steerclear_lab.bench.experiments.common import percent
from steerclear_lab.bench.experiments.stability_faults import FAULTS, line_of
from steerclear_lab.bench.experiments.stability_settings import SWEEPS, Setting
from steerclear_lab.bench.rivals_plots import drawing, png
from steerclear_lab.pages import render, table


def section(document: Mapping[str, Any]) -> str:
    """The experiment's section as Markdown, without its title."""
    limits = document["limits"]
    shortest, longest = limits["lengths"]
    values = {
        "strength": f"{document['strength']:.0%}",
        "tolerance": f"{limits['tolerance']:g}",
        "shortest": f"{shortest:g}",
        "longest": f"{longest:g}",
        "typical_share": f"{1 - limits['typical']:.0%}",
        "typical": f"{document['typical']:.3f}",
        "top": limits["top"],
        "margin": f"{limits['margin']:.3g}",
        "minimisers": [
            {
                "name": minimiser,
                "description": description,
                "table": settings_table([f for f in document["settings"] if f["minimiser"] == minimiser]),
                "region": _region(document["safe"][minimiser]),
            }
            for minimiser, description in document["minimisers"].items()
        ],
    }
    return render("stability.md.j2", values)


def settings_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """The figures of one minimiser as a Markdown table."""
    names = [f.name for f in fields(Setting)]
    faults = [fault.replace("_", " ") for fault in FAULTS]
    rows = [
        [
            *(f"{f[name]:g}" for name in names),
            *(f"{f[fault]} of {f['pictures']}" for fault in FAULTS),
            percent(f["still_copies"]),
            "yes" if f["safe"] else "no",
        ]
        for f in figures
    ]
    return table(["iterations", "rate", "α", "β", "γ", *faults, "still copies", "safe"], rows)


def _region(safe: Mapping[str, Sequence[float] | None]) -> str:
    """A safe region in words."""
    if all(span is None for span in safe.values()):
        return "none, since the default setting itself is not safe"
    spans = {name: span for name, span in safe.items() if span is not None}
    return "; ".join(f"{name} {low:g} … {high:g}" for name, (low, high) in spans.items())


def figure(document: Mapping[str, Any]) -> bytes:
    """The share of each fault against each setting, one line for each minimiser; PNG bytes."""
    shown = ("diverged", "quality_lost", "drifted", "still_copies")
    figure = drawing(2.6 * len(SWEEPS), 1.7 * len(shown))
    panels = figure.subplots(len(shown), len(SWEEPS), squeeze=False, sharey=True)
    for x, name in enumerate(SWEEPS):
        for y, fault in enumerate(shown):
            panel = panels[y][x]
            for minimiser, colour in zip(document["minimisers"], (COPIES, CLEAN), strict=True):
                line = sorted(
                    (f[name], _share(f, fault)) for f in line_of(document["settings"], minimiser, name)
                )
                shares = [value for _, value in line]
                panel.plot(range(len(line)), shares, "o-", color=colour, label=minimiser, alpha=0.8)
                panel.set_xticks(range(len(line)), [f"{at:g}" for at, _ in line], fontsize=7)
            panels[y][0].set_ylabel(fault.replace("_", " "), fontsize=8)
        panels[0][x].set_title(name, fontsize=9)
    panels[0][0].set_ylim(-0.05, 1.05)
    panels[0][0].legend(fontsize=7)
    return png(figure)


def _share(setting: Mapping[str, Any], fault: str) -> float:
    """The share of pictures of a setting that have a fault."""
    if fault == "still_copies":
        return setting[fault] if setting[fault] is not None else math.nan
    return float(setting[fault]) / float(setting["pictures"])
