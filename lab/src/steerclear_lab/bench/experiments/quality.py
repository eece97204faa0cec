"""Quality with and without the guard: the same prompts and seeds, of planted and of ordinary pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steerclear.plots import CLEAN, COPIES
from steerclear_lab.bench.experiments.common import Options
from steerclear_lab.bench.experiments.comparison import METHODS, comparison_document, methods_with, source
from steerclear_lab.bench.rivals_plots import drawing, png
from steerclear_lab.bench.rivals_tables import cell
from steerclear_lab.pages import render, table

TITLE = "Quality, with and without"
MEASURES = {
    "concept_top5": "concept in top 5",
    "alignment": "alignment",
    "alignment_loss": "alignment lost",
    "kid": "KID",
    "diversity": "diversity",
    "vendi": "Vendi",
    "identical_rate": "bit-identical to plain",
}
KINDS = {"memorized": "planted", "ordinary": "ordinary"}


def measure(options: Options) -> dict[str, Any]:
    """Every measure of every method, on planted and on ordinary prompts."""
    comparison = comparison_document(options)
    kept = ("requests", "prompts", "handed_out", *MEASURES)
    kinds = {}
    for kind in KINDS:
        figures = {name: comparison["methods"][name][kind] for name in methods_with(comparison, kind)}
        if figures:
            kinds[kind] = {name: {key: values[key] for key in kept} for name, values in figures.items()}
    return {"source": source(comparison), "kinds": kinds}


def section(document: Mapping[str, Any]) -> str:
    """The experiment's section as Markdown, without its title."""
    rows = [
        [
            KINDS[kind],
            name,
            f"{figures['handed_out']} of {figures['requests']}",
            *(cell(figures[measure]) for measure in MEASURES),
        ]
        for kind, methods in document["kinds"].items()
        for name, figures in methods.items()
    ]
    header = ["prompts", "method", "handed out", *MEASURES.values()]
    return render("quality.md.j2", {"table": table(header, rows)})


def figure(document: Mapping[str, Any]) -> bytes:
    """Four measures, for planted and ordinary prompts, one bar for each method; PNG bytes."""
    shown = ("concept_top5", "alignment", "kid", "diversity")
    figure = drawing(3.2 * len(shown), 3)
    colours = dict(zip(METHODS, (CLEAN, "#bbbbbb", COPIES), strict=True))
    for panel, measure in zip(figure.subplots(1, len(shown)), shown, strict=True):
        for x, methods in enumerate(document["kinds"].values()):
            for i, (name, figures) in enumerate(methods.items()):
                value, low, high = bounds(figures[measure])
                if value is not None:
                    error = None if low is None else [[max(0.0, value - low)], [max(0.0, high - value)]]
                    panel.bar(
                        x + 0.27 * i,
                        value,
                        0.25,
                        yerr=error,
                        color=colours[name],
                        label=name if x == 0 else None,
                    )
        panel.set(title=MEASURES[measure])
        panel.set_xticks(
            [0.27 + x for x in range(len(document["kinds"]))], [KINDS[k] for k in document["kinds"]]
        )
    figure.axes[1].legend(fontsize=8)
    return png(figure)


def bounds(value: Any) -> tuple[Any, Any, Any]:
    """(value, low, high) of a figure with an interval, or of a plain number."""
    if isinstance(value, Mapping):
        return (value["value"], *(value["interval"] or (None, None)))
    return value, None, None
