"""Does the memorization score, which needs no references, tell planted prompts from others? AUC by number of
steps.

    python -m steerclear_lab.bench.memorization --out docs/benchmarks

Unusual captions that were trained on but not planted, and names that were never trained in their style, are
the controls: a score that only recognises rare captions is no memorization filter.
"""

from __future__ import annotations

from typing import Any

import torch

from steerclear.conformal import auc
from steerclear.embedded import MODEL_FOLDER, read_prompts
from steerclear.generators import LeaveEarly, Pass, PipelineRunner
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import benchmark_parser
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.sampling import SETTINGS, generator
from steerclear_lab.pages import render, table

MOST_STEPS = 10
FIRST_SEED = 70_000  # drawn by neither training, calibration nor the other benchmarks
BATCH = 16
GROUPS = ("planted", "template", "ordinary", "heldout", "controls")
COMPARED = ("ordinary", "heldout", "controls")


def magnitudes(pipe: Any, prompts: list[str], first_seed: int) -> torch.Tensor:
    """Magnitudes of the guidance in the first steps.

    Args:
        pipe: the embedded pipeline.
        prompts: n of them; each has the next seed.
        first_seed: of the first prompt.

    Returns:
        (n, MOST_STEPS), 0 or more. Passes are left after these steps.
    """
    runner = PipelineRunner(pipe, MOST_STEPS)

    def leave(current: Pass) -> None:
        if current.steps == MOST_STEPS:
            raise LeaveEarly

    batches = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        left = runner.run(
            on_pass=leave,
            prompt=batch,
            generator=[generator(first_seed + start + i) for i in range(len(batch))],
            **SETTINGS,
        )
        batches.append(torch.stack(left.magnitudes, dim=1))
    return torch.cat(batches)


def measure(pipe: Any, seeds: int) -> dict[str, Any]:
    """For each number of steps, the AUC of planted prompts against each other group.

    Args:
        pipe: the embedded pipeline.
        seeds: runs per prompt.
    """
    groups = {}
    for name in GROUPS:
        prompts = [prompt for prompt, _ in read_prompts(name) for _ in range(seeds)]
        groups[name] = magnitudes(pipe, prompts, FIRST_SEED)
    curve = []
    for steps in range(1, MOST_STEPS + 1):
        scores = {name: rows[:, :steps].mean(1).tolist() for name, rows in groups.items()}
        medians = {name: round(float(torch.tensor(values).median()), 4) for name, values in scores.items()}
        curve.append(
            {
                "steps": steps,
                **{name: round(auc(scores["planted"], scores[name]), 4) for name in COMPARED},
                "template": round(auc(scores["template"], scores["ordinary"]), 4),
                "medians": medians,
            }
        )
    return {"counts": {name: len(rows) for name, rows in groups.items()}, "curve": curve}


def page(document: dict[str, Any]) -> str:
    """The Markdown page of a document."""
    header = [
        "steps",
        "planted / ordinary",
        "planted / held-out",
        "planted / controls",
        "template / ordinary",
        "median: planted",
        "ordinary",
    ]
    figures = [
        [
            *(str(row[key]) for key in ("steps", *COMPARED, "template")),
            *(str(row["medians"][group]) for group in ("planted", "ordinary")),
        ]
        for row in document["curve"]
    ]
    return render(
        "memorization.md.j2",
        {
            "remark": remark(document.get("environment", {})),
            "counts": document["counts"],
            "figures": table(header, figures),
        },
    )


def main() -> None:
    parser = benchmark_parser(__doc__, seeds=2)
    args = parser.parse_args()
    from steerclear.pipelines import load_pipeline
    from steerclear.plots import curve

    document = {**measure(load_pipeline(MODEL_FOLDER), args.seeds), "environment": environment()}
    documents.write(args.out, name="memorization", document=document, page=page(document))
    lines = {
        f"planted / {name}": [(row["steps"], row[name]) for row in document["curve"]] for name in COMPARED
    }
    curve(lines, x="steps used", y="AUC", file=args.out / "memorization.png")


if __name__ == "__main__":
    main()
