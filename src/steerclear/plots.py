"""The figures of a calibration, drawn by matplotlib: score histograms and ROC curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Scores = Mapping[str, Sequence[float]]
CLEAN, COPIES, LINE = (
    "#4477aa",
    "#cc6677",
    "#222222",
)  # told apart with any colour vision (Tol's bright scheme)


def histograms(clean: Scores, copies: Scores, thresholds: Mapping[str, float], file: Path) -> None:
    """Both groups' scores, a panel per filter, with the threshold; written as PNG."""
    figure, panels = _panels(len(clean))
    for panel, name in zip(panels, clean, strict=True):
        everything = [*clean[name], *copies[name]]
        low, high = min(everything), max(everything)
        bins = [low + (high - low or 1.0) * i / 40 for i in range(41)]
        for scores, colour, label in ((clean[name], CLEAN, "clean"), (copies[name], COPIES, "copies")):
            panel.hist(
                scores, bins, weights=[1 / len(scores)] * len(scores), alpha=0.65, color=colour,
                label=f"{label} ({len(scores)})",
            )  # fmt: skip
        panel.axvline(thresholds[name], color=LINE, linestyle="--", label=f"threshold {thresholds[name]:.3f}")
        panel.set(title=name, xlabel="score", ylabel="share of pictures")
        panel.legend(fontsize=8)
    _save(figure, file)


def roc(clean: Scores, copies: Scores, thresholds: Mapping[str, float], file: Path) -> None:
    """Detection rate against false-positive rate, every filter in one figure, with its threshold as a dot; PNG."""
    from steerclear.conformal import auc

    figure, (panel,) = _panels(1)
    for name in clean:
        cuts = [float("inf"), *sorted({*clean[name], *copies[name]}, reverse=True)]
        points = [(_rate(clean[name], cut), _rate(copies[name], cut)) for cut in cuts]
        (line,) = panel.plot(
            *zip(*points, strict=True),
            drawstyle="steps-post",
            label=f"{name}, AUC {auc(copies[name], clean[name]):.3f}",
        )
        cut = thresholds[name]
        panel.plot(_rate(clean[name], cut), _rate(copies[name], cut), "o", color=line.get_color())
    panel.set(
        xscale="symlog",
        xlabel="false-positive rate",
        ylabel="copies flagged",
        xlim=(-0.0005, 1),
        ylim=(0, 1.02),
    )
    panel.set_xscale("symlog", linthresh=0.01)
    panel.legend(fontsize=8, loc="lower right")
    _save(figure, file)


def curve(lines: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, file: Path) -> None:
    """Several curves of (x, y) points in one figure; PNG."""
    figure, (panel,) = _panels(1)
    for name, points in lines.items():
        panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    panel.set(xlabel=x, ylabel=y)
    panel.legend(fontsize=8)
    _save(figure, file)


def _rate(scores: Sequence[float], cut: float) -> float:
    return sum(s >= cut for s in scores) / len(scores)


def _panels(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure  # not pyplot, which keeps global state and may open windows

    figure = Figure(figsize=(5.2 * count, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=110)
