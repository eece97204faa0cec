"""Quality with and without: the same prompts and seeds, plain and guarded; and prompts that ask for nothing protected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from steerclear.plots import CLEAN, COPIES
from steerclear_lab.bench.experiments.common import Options, table
from steerclear_lab.bench.experiments.comparison import METHODS, compared, present, source
from steerclear_lab.bench.rivals_plots import drawing, png
from steerclear_lab.bench.rivals_tables import cell

TITLE = "Quality, with and without"
MEASURES = {
    "concept_top5": "concept in top 5", "alignment": "alignment", "alignment_loss": "alignment lost", "kid": "KID",
    "diversity": "diversity", "vendi": "Vendi", "identical_rate": "bit-identical to plain",
}  # fmt: skip
KINDS = {"memorized": "planted", "ordinary": "ordinary"}


def measure(options: Options) -> dict[str, Any]:
    """Every measure of every method, on planted and on ordinary prompts."""
    found = compared(options)
    return {
        "source": source(found),
        "kinds": {
            kind: {
                name: {"requests": m["requests"], "prompts": m["prompts"], "handed_out": m["handed_out"]}
                | {measure: m[measure] for measure in MEASURES}
                for name in present(found, kind)
                for m in [found["methods"][name][kind]]
            }
            for kind in KINDS
            if present(found, kind)
        },
    }


def section(found: Mapping[str, Any]) -> list[str]:
    """The section's lines, without its title."""
    rows = [
        [KINDS[kind], name, f"{m['handed_out']} of {m['requests']}", *(cell(m[measure]) for measure in MEASURES)]
        for kind, methods in found["kinds"].items()
        for name, m in methods.items()
    ]  # fmt: skip
    return [
        "The same prompts and seeds without anything (`none`), with the paper's method as written, and with the guard. A "
        "concept is kept where the judge's CLIP ranks it in the top 5 of all names; alignment is the cosine of prompt and picture, "
        "whose prompt names the copy, so that whatever is no copy loses some; KID is against ordinary pictures of the training "
        "set, by which copies are far off too; diversity is the mean cosine distance among the seeds of one prompt, Vendi their "
        "effective number. Brackets are 95 % intervals over prompts.",
        "", *table(["prompts", "method", "handed out", *MEASURES.values()], rows),
    ]  # fmt: skip


def figure(found: Mapping[str, Any]) -> bytes:
    """Four measures, planted and ordinary prompts beside one another, a bar a method."""
    shown = ("concept_top5", "alignment", "kid", "diversity")
    figure = drawing(3.2 * len(shown), 3)
    colours = dict(zip(METHODS, (CLEAN, "#bbbbbb", COPIES), strict=True))
    for panel, measure in zip(figure.subplots(1, len(shown)), shown, strict=True):
        for x, methods in enumerate(found["kinds"].values()):
            for i, (name, m) in enumerate(methods.items()):
                value, low, high = bounds(m[measure])
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
        panel.set_xticks([0.27 + x for x in range(len(found["kinds"]))], [KINDS[k] for k in found["kinds"]])
    figure.axes[1].legend(fontsize=8)
    return png(figure)


def bounds(figure: Any) -> tuple[Any, Any, Any]:
    """(value, low, high) of a figure with an interval, or of a plain number."""
    if isinstance(figure, Mapping):
        return (figure["value"], *(figure["interval"] or (None, None)))
    return figure, None, None
