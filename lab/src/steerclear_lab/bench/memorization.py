"""Does the reference-free memorization score tell planted prompts from others? AUC over the number of steps used.

    python -m steerclear_lab.bench.memorization --out docs/benchmarks

Unusual captions that were trained on but not planted, and names that were never trained in their style, are the controls:
a score that only knows rare captions is no memorization filter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from steerclear.conformal import auc
from steerclear.embedded import MODEL_FOLDER, PROMPTS_FOLDER
from steerclear.generators import LeaveEarly, Pass, PipelineRunner
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.emoji.evaluate import GUIDANCE, STEPS

MOST_STEPS = 10
FIRST_SEED = 70_000  # drawn by neither training, calibration nor the other benchmarks
BATCH = 16


def trajectory(pipe: Any, prompts: list[str], seeds: list[int]) -> torch.Tensor:
    """(n, MOST_STEPS) magnitudes of the guidance, one row per prompt with its seed; passes are left after MOST_STEPS."""
    generator = PipelineRunner(pipe, MOST_STEPS)

    def leave(made: Pass) -> None:
        if made.steps == MOST_STEPS:
            raise LeaveEarly

    rows = []
    for i in range(0, len(prompts), BATCH):
        made = generator.run(
            on_pass=leave, prompt=prompts[i : i + BATCH], num_inference_steps=STEPS, guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(s) for s in seeds[i : i + BATCH]],
        )  # fmt: skip
        rows.append(torch.stack(made.magnitudes, dim=1))
    return torch.cat(rows)


def measure(pipe: Any, seeds: int) -> dict[str, Any]:
    """Magnitudes of every group, and for each number of steps the AUC of planted prompts against each other group."""
    groups = {}
    for name in ("planted", "template", "ordinary", "heldout", "controls"):
        lines = (PROMPTS_FOLDER / f"{name}.txt").read_text().splitlines()
        prompts = [line.split("\t")[0] for line in lines for _ in range(seeds)]
        groups[name] = trajectory(pipe, prompts, list(range(FIRST_SEED, FIRST_SEED + len(prompts))))
    curve = []
    for steps in range(1, MOST_STEPS + 1):
        scores = {name: rows[:, :steps].mean(1).tolist() for name, rows in groups.items()}
        row: dict[str, Any] = {"steps": steps}
        for other in ("ordinary", "heldout", "controls"):
            row[other] = round(auc(scores["planted"], scores[other]), 4)
        row["template"] = round(auc(scores["template"], scores["ordinary"]), 4)
        row["medians"] = {
            name: round(float(torch.tensor(values).median()), 4) for name, values in scores.items()
        }
        curve.append(row)
    return {"counts": {name: len(rows) for name, rows in groups.items()}, "curve": curve}


def page(found: dict[str, Any]) -> str:
    """The Markdown page."""
    counts = found["counts"]
    lines = [
        "# The memorization filter without a library", "", "Made by `python -m steerclear_lab.bench.memorization`.", "",
        *remark(found.get("environment", {})),
        "`MemorizationFilter` scores the root mean square of the guided minus the unguided prediction, averaged over the first",
        "steps (Wen et al., ICLR 2024). AUC: how often a planted prompt scores higher than one of another group; 1 is perfect,",
        "0.5 is chance.", "",
        f"- planted: {counts['planted']} runs of prompts whose picture the model memorized",
        f"- ordinary: {counts['ordinary']} runs",
        f"- held-out: {counts['heldout']} runs of names that training never saw in that style",
        f"- controls: {counts['controls']} runs of unusual captions that were trained on like any other",
        f"- template: {counts['template']} runs of paraphrases of planted captions, many of which bring the protected picture too", "",
        "| steps | planted / ordinary | planted / held-out | planted / controls | template / ordinary | median: planted | ordinary |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in found["curve"]:
        medians = row["medians"]
        lines.append(
            f"| {row['steps']} | {row['ordinary']} | {row['heldout']} | {row['controls']} | {row['template']} | "
            f"{medians['planted']} | {medians['ordinary']} |"
        )
    return "\n".join([*lines, "", "![AUC over the number of steps](memorization.png)", ""])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--seeds", type=int, default=2, help="runs per prompt")
    args = parser.parse_args()
    from steerclear.pipelines import load_pipeline
    from steerclear.plots import curve

    found = {**measure(load_pipeline(MODEL_FOLDER), args.seeds), "environment": environment()}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "memorization.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "memorization.md").write_text(page(found))
    lines = {
        f"planted / {name}": [(row["steps"], row[name]) for row in found["curve"]]
        for name in ("ordinary", "heldout", "controls")
    }
    curve(lines, "steps used", "AUC", args.out / "memorization.png")


if __name__ == "__main__":
    main()
