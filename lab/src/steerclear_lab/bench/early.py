"""How early does a copy show, and does that hold for other samplers, guidance scales and step counts?

    python -m steerclear_lab.bench.early --apply --out docs/benchmarks

For every setting, plain generations of planted and of ordinary prompts are watched for their first steps, and the cosine of
`denoised` with the nearest protected latent is compared with the threshold of the same step that was calibrated on *one*
setting (the embedded model's own), and with what the setting's own scores would give.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear.calibrate import EARLY_STEPS, early_threshold
from steerclear.embedded import MODEL_FOLDER, PROMPTS_FOLDER
from steerclear.generators import LeaveEarly, Pass, PipelineRunner
from steerclear.pixels import cosines
from steerclear.plots import curve
from steerclear_lab.assets import ASSETS
from steerclear_lab.emoji.evaluate import GUIDANCE as OWN_GUIDANCE
from steerclear_lab.emoji.evaluate import STEPS as OWN_STEPS

SCHEDULERS = (
    "DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler",
    "PNDMScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
GUIDANCES, STEPS = (2.0, 4.0, 7.5), (25, 50)
FIRST_SEED = 80_000  # drawn by nothing else
BATCH = 24
CALIBRATED = (OWN_STEPS, OWN_GUIDANCE)


def watched(
    pipe: Any, prompts: list[str], first_seed: int, latents: Tensor, guidance: float, steps: int
) -> Tensor:
    """(n, EARLY_STEPS) cosines of each step's `denoised` with the nearest of latents (N, …)."""
    generator = PipelineRunner(pipe)
    rows = []
    for i in range(0, len(prompts), BATCH):
        seen: list[Tensor] = []

        def look(made: Pass, seen: list[Tensor] = seen) -> None:
            assert made.denoised is not None
            seen.append(torch.stack([cosines(row[None], latents).max() for row in made.denoised]))
            if made.steps == EARLY_STEPS:
                raise LeaveEarly

        seeds = range(first_seed + i, first_seed + i + len(prompts[i : i + BATCH]))
        generator.run(
            on_pass=look, prompt=prompts[i : i + BATCH], num_inference_steps=steps, guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(s) for s in seeds],
        )  # fmt: skip
        rows.append(torch.stack(seen, dim=1))
    return torch.cat(rows)


def measure(pipe: Any, latents: Tensor, thresholds: list[float], ordinary: int) -> list[dict[str, Any]]:
    """One row per setting. thresholds: of each step, to be tried everywhere; ordinary: how many such prompts."""
    import diffusers

    planted = _prompts("planted")
    clear = _prompts("ordinary")[:: max(1, len(_prompts("ordinary")) // ordinary)][:ordinary]
    config, rows = pipe.scheduler.config, []
    for scheduler, guidance, steps in product(SCHEDULERS, GUIDANCES, STEPS):
        pipe.scheduler = getattr(diffusers, scheduler).from_config(config)
        copies = watched(pipe, planted, FIRST_SEED, latents, guidance, steps)
        others = watched(pipe, clear, FIRST_SEED + 1000, latents, guidance, steps)
        row: dict[str, Any] = {
            "scheduler": scheduler, "guidance": guidance, "steps": steps, "copies": len(copies), "ordinary": len(others), "at": [],
        }  # fmt: skip
        for step in range(EARLY_STEPS):
            own = early_threshold(copies[:, step], others[:, step])
            row["at"].append({
                "step": step,
                "caught": float((copies[:, step] >= thresholds[step]).float().mean()),
                "false_alarms": float((others[:, step] >= thresholds[step]).float().mean()),
                "own_threshold": round(own, 4),
                "own_caught": float((copies[:, step] >= own).float().mean()),
                "clear_most": round(float(others[:, step].max()), 4),
            })  # fmt: skip
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def page(document: dict[str, Any]) -> str:
    """The Markdown page."""
    rows, chosen = document["rows"], document["chosen"]
    lines = [
        "# How early a copy shows", "", f"Made by `python -m steerclear_lab.bench.early --apply --ordinary {rows[0]['ordinary']}`.", "",
        f"{rows[0]['copies']} planted and {rows[0]['ordinary']} ordinary prompts in each setting, one seed each, drawn by",
        "nothing else. Each cell: copies caught / false alarms at the thresholds that were calibrated on the embedded model's own",
        f"setting alone (DDIMScheduler, {CALIBRATED[0]} steps, guidance {CALIBRATED[1]}).", "",
        "| scheduler | steps | guidance | " + " | ".join(f"step {i}" for i in range(EARLY_STEPS)) + " |",
        "|---|---|---|" + "---|" * EARLY_STEPS,
    ]  # fmt: skip
    for row in rows:
        cells = " | ".join(f"{at['caught']:.0%} / {at['false_alarms']:.0%}" for at in row["at"])
        lines.append(f"| {row['scheduler']} | {row['steps']} | {row['guidance']} | {cells} |")
    step = chosen["step"]
    alarms = max(row["at"][step]["false_alarms"] for row in rows)
    caught = min(row["at"][step]["caught"] for row in rows)
    used = chosen["settings"]
    return "\n".join([
        *lines, "",
        f"The guard looks at step {step} (threshold {chosen['threshold']}): over all settings it catches at least",
        f"{caught:.0%} of the copies there, with at most {alarms:.0%} false alarms. A false alarm costs one",
        "steered picture where a plain one would have done, so the guard uses the verdict only where there were none:",
        ", ".join(used["schedulers"]) + f"; {used['steps'][0]} to {used['steps'][1]} steps;",
        f"guidance {used['guidance'][0]} to {used['guidance'][1]}.", "",
        "![Copies caught, step by step](early.png)", "",
    ])  # fmt: skip


def settings(rows: list[dict[str, Any]], step: int, spacing: str) -> dict[str, Any]:
    """The schedulers for which no step count and guidance that was tried raised a false alarm at this step."""
    alarmed = {row["scheduler"] for row in rows if row["at"][step]["false_alarms"] > 0}
    return {
        "schedulers": [s for s in SCHEDULERS if s not in alarmed], "steps": [min(STEPS), max(STEPS)],
        "guidance": [min(GUIDANCES), max(GUIDANCES)], "spacing": spacing,
    }  # fmt: skip


def _prompts(name: str) -> list[str]:
    return [line.split("\t")[0] for line in (PROMPTS_FOLDER / f"{name}.txt").read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--ordinary", type=int, default=72, help="ordinary prompts in each setting")
    parser.add_argument(
        "--apply",
        action="store_true",
        help="let the embedded library use the verdict wherever it raised no false alarm",
    )
    args = parser.parse_args()
    from steerclear.embedded import LIBRARY_FOLDER
    from steerclear.library import Library
    from steerclear.loading import embedded_calibration
    from steerclear.pipelines import latent_like, load_pipeline
    from steerclear.protected import Protected

    pipe = load_pipeline(MODEL_FOLDER)
    protected = Protected(pipe, Library.open(LIBRARY_FOLDER).pictures())
    calibration = embedded_calibration()
    thresholds = [row["threshold"] for row in calibration["evidence"]["early_curve"]]
    rows = measure(
        pipe, protected.latents(tuple(protected.pictures), latent_like(pipe)), thresholds, args.ordinary
    )
    if args.apply:
        calibration["early"]["settings"] = settings(
            rows, calibration["early"]["step"], pipe.scheduler.config.timestep_spacing
        )
        library = Library.open(LIBRARY_FOLDER)
        library.write_note("calibration", calibration)
        library.write_snapshot()
        kept = ASSETS / "calibration.json"
        kept.write_text(
            json.dumps({**json.loads(kept.read_text()), "early": calibration["early"]}, indent=1) + "\n"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    document = {"thresholds": thresholds, "chosen": calibration["early"], "rows": rows}
    (args.out / "early.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "early.md").write_text(page(document))
    lines = {
        f"{row['scheduler'].removesuffix('Scheduler')}, guidance {row['guidance']}": [
            (at["step"], at["caught"]) for at in row["at"]
        ]
        for row in rows
        if row["steps"] == STEPS[0] and row["guidance"] == GUIDANCES[1]
    }
    curve(lines, "step", "copies caught", args.out / "early.png")


if __name__ == "__main__":
    main()
