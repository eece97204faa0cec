"""How the embedded thresholds were chosen, as a page: scores of known copies and of ordinary generations.

    python -m steerclear_lab.bench.thresholds --out docs/benchmarks

reads `calibration.json`, which `steerclear train-emoji --stage library` writes beside the model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from steerclear.calibrate import ALONE
from steerclear.conformal import bounded_threshold
from steerclear.plots import histograms, roc
from steerclear_lab.assets import ASSETS

RATES = (0.01, 0.02, 0.05)


def page(found: dict[str, Any]) -> str:
    """The Markdown page: thresholds, evidence, early curve, and the figures."""
    evidence, other = found["evidence"], found["evidence"]["other_half"]
    lines = [
        "# How the thresholds were chosen", "",
        "Made by `python -m steerclear_lab.bench.thresholds` from the scores that `steerclear train-emoji --stage library` kept.", "",
        f"Thresholds were chosen on {evidence['copies']} plain generations of planted prompts and {evidence['clear']} of ordinary and",
        "held-out prompts, and looked at again on as many that they were not chosen on. A threshold lies as low as",
        "ordinary pictures allow: as far above their highest score as that lies above 99 % of them, but never so high that fewer than",
        f"{ALONE:.0%} of the copies reach it. The pixel filter keeps the paper's distance of 0.1.", "",
        "| | chosen on | the other half |", "|---|---|---|",
        f"| planted generations flagged | {evidence['copies_flagged']:.2%} | {other['copies_flagged']:.2%} |",
        f"| ordinary generations flagged | {evidence['clear_flagged']:.2%} | {other['clear_flagged']:.2%} |", "",
        "| filter | threshold | for steered pictures | copies: least | copies: median | ordinary: median | ordinary: most |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in evidence["by_filter"].items():
        values = [row["copies_least"], row["copies_median"], row["clear_median"], row["clear_most"]]
        lines.append(
            f"| {name} | {found['thresholds'][name]} | {found['strict'][name]} | "
            + " | ".join(map(str, values))
            + " |"
        )
    lines += [
        "",
        "The early verdict, at the cosine of `denoised` with the nearest protected latent, step by step:",
        "",
    ]
    lines += [
        "| step | threshold | copies caught | copies: median | ordinary: most |",
        "|---|---|---|---|---|",
    ]
    for row in evidence["early_curve"]:
        keys = ("step", "threshold", "copies_caught", "copies_median", "clear_most")
        lines.append("| " + " | ".join(str(row[k]) for k in keys) + " |")
    if found["early"]:
        lines += [
            "",
            f"Chosen: step {found['early']['step']}, threshold {found['early']['threshold']}. On the other half it catches",
        ]
        lines += [
            f"{other['early_copies_caught']:.2%} of the copies, with {other['early_false_alarms']:.2%} false alarms."
        ]
    lines += stated_rates(found)
    lines += [
        "", "## Scores", "", "![Score histograms, with the thresholds](calibration-histograms.png)", "",
        "![ROC curves; the dots are the thresholds](calibration-roc.png)",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def stated_rates(found: dict[str, Any]) -> list[str]:
    """What `steerclear calibrate` would choose at a stated rate on one half of the ordinary generations, on the other."""
    (chosen_on, other), copies = found["scores"]["clear"], found["scores"]["copies"]
    lines = [
        "", "## At a stated false-positive rate", "",
        "`steerclear calibrate` takes the rate from you. Chosen on one half of the ordinary generations, looked at on the other half,",
        "which it has not seen, and on all planted generations:", "",
        "| filter | rate asked for | threshold | clean flagged, chosen on | bound at 95 % | clean flagged, other half | copies flagged |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for rate in RATES:
        for name in found["thresholds"]:
            bound = bounded_threshold(chosen_on[name], rate)
            hits = sum(s >= bound.threshold for s in other[name])
            caught = [s >= bound.threshold for half in copies for s in half[name]]
            lines.append(
                f"| {name} | {rate:.0%} | {bound.threshold:.4f} | {bound.exceeding} of {bound.n} | {bound.upper:.2%} | "
                f"{hits} of {len(other[name])} ({hits / len(other[name]):.2%}) | {sum(caught) / len(caught):.1%} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = json.loads((ASSETS / "calibration.json").read_text())
    (args.out / "calibration.md").write_text(page(found))
    clear, copies = (
        {name: [s for half in found["scores"][who] for s in half[name]] for name in found["thresholds"]}
        for who in ("clear", "copies")
    )
    histograms(clear, copies, found["thresholds"], args.out / "calibration-histograms.png")
    roc(clear, copies, found["thresholds"], args.out / "calibration-roc.png")


if __name__ == "__main__":
    main()
