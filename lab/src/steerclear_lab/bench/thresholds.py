"""How the embedded thresholds were chosen, as a page: scores of known copies and of ordinary generations.

    python -m steerclear_lab.bench.thresholds --out docs/benchmarks

reads `calibration.json`, which `steerclear train-emoji --stage library` writes into the laboratory's assets.
"""

from __future__ import annotations

from typing import Any

from steerclear.conformal import bounded_threshold
from steerclear.plots import histograms, roc
from steerclear_lab.assets import ASSETS
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import benchmark_parser
from steerclear_lab.emoji.thresholds import ALONE
from steerclear_lab.pages import render, table

CALIBRATION = ASSETS / "calibration.json"
RATES = (0.01, 0.02, 0.05)


def page(calibration: dict[str, Any]) -> str:
    """The Markdown page of a calibration: thresholds, evidence, the early verdict, and the figures."""
    evidence = calibration["evidence"]
    return render(
        "calibration.md.j2",
        {
            "alone": ALONE,
            "evidence": evidence,
            "early": calibration["early"],
            "halves": _halves(evidence),
            "filters": _filters(calibration),
            "early_curve": _early_curve(evidence),
            "rates": _stated_rates(calibration),
        },
    )


def _halves(evidence: dict[str, Any]) -> str:
    """What is flagged of the half that thresholds were chosen on, and of the other."""
    rows = [
        [title, *(f"{half[key]:.2%}" for half in (evidence, evidence["other_half"]))]
        for title, key in (
            ("planted generations flagged", "copies_flagged"),
            ("ordinary generations flagged", "clear_flagged"),
        )
    ]
    return table(["", "chosen on", "the other half"], rows)


def _filters(calibration: dict[str, Any]) -> str:
    """The threshold of each filter, with the scores around it."""
    header = [
        "filter",
        "threshold",
        "for steered pictures",
        "copies: least",
        "copies: median",
        "ordinary: median",
        "ordinary: most",
    ]
    keys = ("copies_least", "copies_median", "clear_median", "clear_most")
    rows = [
        [
            name,
            str(calibration["thresholds"][name]),
            str(calibration["strict"][name]),
            *(str(scores[key]) for key in keys),
        ]
        for name, scores in calibration["evidence"]["by_filter"].items()
    ]
    return table(header, rows)


def _early_curve(evidence: dict[str, Any]) -> str:
    """The threshold of each early step, with what it catches."""
    keys = ("step", "threshold", "copies_caught", "copies_median", "clear_most")
    rows = [[str(row[key]) for key in keys] for row in evidence["early_curve"]]
    return table(["step", "threshold", "copies caught", "copies: median", "ordinary: most"], rows)


def _stated_rates(calibration: dict[str, Any]) -> str:
    """What `steerclear calibrate` chooses on one half of the ordinary generations, tested on the other."""
    header = [
        "filter",
        "rate asked for",
        "threshold",
        "clean flagged, chosen on",
        "bound at 95 %",
        "clean flagged, other half",
        "copies flagged",
    ]
    (chosen_on, other), copies = calibration["scores"]["clear"], calibration["scores"]["copies"]
    rows = []
    for rate in RATES:
        for name in calibration["thresholds"]:
            bound = bounded_threshold(chosen_on[name], rate)
            alarms, count = sum(s >= bound.threshold for s in other[name]), len(other[name])
            caught = [s >= bound.threshold for half in copies for s in half[name]]
            rows.append(
                [
                    name,
                    f"{rate:.0%}",
                    f"{bound.threshold:.4f}",
                    f"{bound.exceeding} of {bound.n}",
                    f"{bound.upper:.2%}",
                    f"{alarms} of {count} ({alarms / count:.2%})",
                    f"{sum(caught) / len(caught):.1%}",
                ]
            )
    return table(header, rows)


def main() -> None:
    args = benchmark_parser(__doc__).parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    calibration = documents.read(CALIBRATION)
    thresholds = calibration["thresholds"]
    (args.out / "calibration.md").write_text(page(calibration))
    clear, copies = (
        {name: [s for half in calibration["scores"][group] for s in half[name]] for name in thresholds}
        for group in ("clear", "copies")
    )
    histograms(clear, copies=copies, thresholds=thresholds, file=args.out / "calibration-histograms.png")
    roc(clear, copies=copies, thresholds=thresholds, file=args.out / "calibration-roc.png")


if __name__ == "__main__":
    main()
