"""How early does a copy show, and does that hold for other samplers, guidance scales and step counts?

    python -m steerclear_lab.bench.early --apply --out docs/benchmarks

For every setting, the first steps of plain generations of planted and of ordinary prompts are observed. The
cosine of `denoised` with the nearest protected latent is compared with the threshold of the same step that
was calibrated on *one* setting (the embedded model's own), and with what the setting's own scores would give.
"""

from __future__ import annotations

import json
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from steerclear.calibrate.settings import SAMPLERS
from steerclear.embedded import MODEL_FOLDER, read_prompts
from steerclear.generators import LeaveEarly, Pass, PipelineRunner
from steerclear.pixels import cosines
from steerclear.plots import curve
from steerclear_lab.assets import ASSETS
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import benchmark_parser
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.sampling import generator
from steerclear_lab.emoji.evaluate import GUIDANCE as CALIBRATED_GUIDANCE
from steerclear_lab.emoji.evaluate import STEPS as CALIBRATED_STEPS
from steerclear_lab.emoji.thresholds import EARLY_STEPS, early_threshold
from steerclear_lab.pages import render, table

GUIDANCES, STEPS = (2.0, 4.0, 7.5), (25, 50)
FIRST_SEED = 80_000  # drawn by nothing else
BATCH = 24


def early_cosines(
    pipe: Any, prompts: list[str], *, latents: Tensor, first_seed: int, guidance: float, steps: int
) -> Tensor:
    """Cosines of each early step's `denoised` with the nearest protected latent.

    Args:
        pipe: a pipeline with the scheduler to try.
        prompts: n of them; each has the next seed.
        latents: (N, …), of the protected pictures.
        first_seed: of the first prompt.
        guidance: guidance scale.
        steps: denoising steps of the schedule.

    Returns:
        (n, EARLY_STEPS) in [-1, 1]. Passes are left after these steps.
    """
    runner = PipelineRunner(pipe)
    batches = []
    for start in range(0, len(prompts), BATCH):
        scores: list[Tensor] = []

        def observe(current: Pass, scores: list[Tensor] = scores) -> None:
            assert current.denoised is not None
            scores.append(torch.stack([cosines(row[None], latents).max() for row in current.denoised]))
            if current.steps == EARLY_STEPS:
                raise LeaveEarly

        batch = prompts[start : start + BATCH]
        runner.run(
            on_pass=observe,
            prompt=batch,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[generator(first_seed + start + i) for i in range(len(batch))],
        )
        batches.append(torch.stack(scores, dim=1))
    return torch.cat(batches)


def measure(pipe: Any, latents: Tensor, thresholds: list[float], ordinary: int) -> list[Row]:
    """Try the thresholds in every setting.

    Args:
        pipe: the embedded pipeline; its scheduler is replaced.
        latents: (N, …), of the protected pictures.
        thresholds: of each early step.
        ordinary: how many ordinary prompts.

    Returns:
        A row per setting.
    """
    import diffusers

    planted = [prompt for prompt, _ in read_prompts("planted")]
    all_ordinary = [prompt for prompt, _ in read_prompts("ordinary")]
    clear = all_ordinary[:: max(1, len(all_ordinary) // ordinary)][:ordinary]
    config, rows = pipe.scheduler.config, []
    for scheduler, guidance, steps in product(SAMPLERS, GUIDANCES, STEPS):
        pipe.scheduler = getattr(diffusers, scheduler).from_config(config)
        observe = partial(early_cosines, pipe, latents=latents, guidance=guidance, steps=steps)
        copies = observe(planted, first_seed=FIRST_SEED)
        others = observe(clear, first_seed=FIRST_SEED + 1000)
        row: Row = {
            "scheduler": scheduler,
            "guidance": guidance,
            "steps": steps,
            "copies": len(copies),
            "ordinary": len(others),
            "at": [
                _step_row(step, copies=copies[:, step], others=others[:, step], threshold=threshold)
                for step, threshold in enumerate(thresholds)
            ],
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _step_row(step: int, copies: Tensor, others: Tensor, threshold: float) -> Row:
    """What a threshold catches at a step, and what the setting's own would."""
    fitted = early_threshold(copies, others)
    return {
        "step": step,
        "caught": float((copies >= threshold).float().mean()),
        "false_alarms": float((others >= threshold).float().mean()),
        "own_threshold": round(fitted, 4),
        "own_caught": float((copies >= fitted).float().mean()),
        "clear_most": round(float(others.max()), 4),
    }


def page(document: Row) -> str:
    """The Markdown page of a document.

    The verdict's threshold ships with the weights, so that only the source is compared.
    """
    rows, chosen = document["rows"], document["chosen"]
    header = ["scheduler", "steps", "guidance", *(f"step {i}" for i in range(EARLY_STEPS))]
    figures = [
        [
            *(str(row[key]) for key in ("scheduler", "steps", "guidance")),
            *(f"{at['caught']:.0%} / {at['false_alarms']:.0%}" for at in row["at"]),
        ]
        for row in rows
    ]
    at_chosen = [row["at"][chosen["step"]] for row in rows]
    return render(
        "early.md.j2",
        {
            "remark": remark(document.get("environment", {}), weights_matter=False),
            "planted": rows[0]["copies"],
            "ordinary": rows[0]["ordinary"],
            "calibrated_steps": CALIBRATED_STEPS,
            "calibrated_guidance": CALIBRATED_GUIDANCE,
            "figures": table(header, figures),
            "chosen": chosen,
            "caught": min(at["caught"] for at in at_chosen),
            "alarms": max(at["false_alarms"] for at in at_chosen),
        },
    )


def quiet_settings(rows: list[Row], step: int, spacing: str) -> dict[str, Any]:
    """The settings in which the guard may use the verdict.

    Args:
        rows: of `measure`.
        step: at which the guard looks.
        spacing: of the scheduler's timesteps.

    Returns:
        The schedulers for which no step count and guidance that was tried raised a false alarm, and the
        ranges that were tried.
    """
    alarmed = {row["scheduler"] for row in rows if row["at"][step]["false_alarms"] > 0}
    return {
        "schedulers": [s for s in SAMPLERS if s not in alarmed],
        "steps": [min(STEPS), max(STEPS)],
        "guidance": [min(GUIDANCES), max(GUIDANCES)],
        "spacing": spacing,
    }


def main() -> None:
    parser = benchmark_parser(__doc__)
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
    latents = protected.latents(tuple(protected.pictures), latent_like(pipe))
    rows = measure(pipe, latents=latents, thresholds=thresholds, ordinary=args.ordinary)
    if args.apply:
        spacing = pipe.scheduler.config.timestep_spacing
        calibration["early"]["settings"] = quiet_settings(rows, calibration["early"]["step"], spacing)
        library = Library.open(LIBRARY_FOLDER)
        library.write_note("calibration", calibration)
        library.write_snapshot()
        scores = ASSETS / "calibration.json"
        kept = {**json.loads(scores.read_text()), "early": calibration["early"]}
        scores.write_text(json.dumps(kept, indent=1) + "\n")
    document = {
        "environment": environment(),
        "thresholds": thresholds,
        "chosen": calibration["early"],
        "rows": rows,
    }
    documents.write(args.out, name="early", document=document, page=page(document))
    lines = {
        f"{row['scheduler'].removesuffix('Scheduler')}, guidance {row['guidance']}": [
            (at["step"], at["caught"]) for at in row["at"]
        ]
        for row in rows
        if row["steps"] == STEPS[0] and row["guidance"] == GUIDANCES[1]
    }
    curve(lines, x="step", y="copies caught", file=args.out / "early.png")


if __name__ == "__main__":
    main()
