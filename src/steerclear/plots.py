"""The figures of a calibration, drawn by matplotlib: score histograms and ROC curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Scores = Mapping[str, Sequence[float]]
# told apart with any colour vision (Tol's bright scheme)
CLEAN, COPIES, LINE = "#4477aa", "#cc6677", "#222222"
BINS = 40


def histograms(clean: Scores, copies: Scores, thresholds: Mapping[str, float], file: Path) -> None:
    """Draw both groups' scores with the threshold, a panel per filter.

    Args:
        clean: filter name → scores of clean pictures.
        copies: filter name → scores of copies.
        thresholds: filter name → threshold.
        file: the PNG to write.
    """
    figure, panels = _panels(len(clean))
    for panel, name in zip(panels, clean, strict=True):
        scores_of_both = [*clean[name], *copies[name]]
        low, high = min(scores_of_both), max(scores_of_both)
        bins = [low + (high - low or 1.0) * i / BINS for i in range(BINS + 1)]
        for scores, colour, label in ((clean[name], CLEAN, "clean"), (copies[name], COPIES, "copies")):
            panel.hist(
                scores,
                bins,
                weights=[1 / len(scores)] * len(scores),
                alpha=0.65,
                color=colour,
                label=f"{label} ({len(scores)})",
            )
        panel.axvline(thresholds[name], color=LINE, linestyle="--", label=f"threshold {thresholds[name]:.3f}")
        panel.set(title=name, xlabel="score", ylabel="share of pictures")
        panel.legend(fontsize=8, loc="upper center")  # matplotlib's "best" takes long
    _save(figure, file)


def roc(clean: Scores, copies: Scores, thresholds: Mapping[str, float], file: Path) -> None:
    """Draw the share of copies that is flagged against the false-positive rate, with each threshold as a dot.

    Args:
        clean: filter name → scores of clean pictures.
        copies: filter name → scores of copies.
        thresholds: filter name → threshold.
        file: the PNG to write.
    """
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
    """Draw several curves in one figure.

    Args:
        lines: label → (x, y) points.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        file: the PNG to write.
    """
    figure, (panel,) = _panels(1)
    for name, points in lines.items():
        panel.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    panel.set(xlabel=x, ylabel=y)
    panel.legend(fontsize=8)
    _save(figure, file)


def _rate(scores: Sequence[float], cut: float) -> float:
    return sum(score >= cut for score in scores) / len(scores)


def _panels(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure  # not pyplot, which keeps global state and may open windows

    figure = Figure(figsize=(5.2 * count, 3.6), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _save(figure: Any, file: Path) -> None:
    figure.savefig(file, dpi=110)
