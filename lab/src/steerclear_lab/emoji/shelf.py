"""Stage 6 of the recipe: the embedded protected library, and thresholds from the finished model's own generations."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from steerclear.calibrate import Scores, choose, collect, flagged_share
from steerclear.encoders.embedded import CopyDescriptor
from steerclear.fingerprints import file_fingerprint
from steerclear_lab.emoji.evaluate import GUIDANCE, STEPS

FIRST_SEED = 40_000
COPY_SEEDS, CLEAR_SEEDS = 8, 2  # per planted prompt and per ordinary or held-out prompt


def build(folder: Path) -> None:
    """Write `folder/library` from `folder/protected`, embedded by the copy descriptor of `folder/model`."""
    from steerclear.library import Library, Source, add

    encoder = CopyDescriptor.load(folder / "model" / "descriptor")
    captions = json.loads((folder / "protected" / "captions.json").read_text())
    shutil.rmtree(folder / "library", ignore_errors=True)
    library = Library.create(folder / "library", [encoder])
    files = sorted((folder / "protected").glob("*.png"))
    sources = [
        Source(f"protected/{f.name}", f.read_bytes, {"id": f.stem, "caption": captions[f.name]})
        for f in files
    ]
    report = add(library, sources, [encoder], tags=["embedded"])
    if report.failed or len(library) != len(files):
        raise RuntimeError(f"the embedded library is not whole: {report.failed}")


def calibrate(folder: Path) -> dict[str, Any]:
    """Choose the thresholds on one half of the seeds, state how they hold on the other, and note both in the library."""
    from steerclear.filters.library import FilterParts, library_filters
    from steerclear.library import Library
    from steerclear.pipelines import latent_like, load_pipeline
    from steerclear.protected import Protected

    pipe = load_pipeline(folder / "model")
    library = Library.open(folder / "library")
    encoder = CopyDescriptor.load(folder / "model" / "descriptor")
    # any thresholds will do for looking at scores
    filters = library_filters(FilterParts(library, [encoder], {"nearest": 1.0, "pixel": 0.9, "tiled": 1.0}))
    protected = Protected(pipe, library.pictures())
    latents = protected.latents(tuple(protected.pictures), latent_like(pipe))
    copies_prompts = _prompts(folder, "planted")
    clear_prompts = _prompts(folder, "ordinary") + _prompts(folder, "heldout")
    halves: dict[str, list[Scores]] = {"copies": [], "clear": []}
    with Progress() as progress:
        jobs = {"copies": (copies_prompts, COPY_SEEDS), "clear": (clear_prompts, CLEAR_SEEDS)}
        for name, (prompts, seeds) in jobs.items():
            task = progress.add_task(f"calibrate: {name}", total=len(prompts) * seeds)
            for half in range(2):
                numbers = range(half * seeds // 2, (half + 1) * seeds // 2)
                rows = [
                    (prompt, FIRST_SEED + 1000 * s + i) for i, prompt in enumerate(prompts) for s in numbers
                ]
                halves[name].append(
                    collect(
                        pipe, [p for p, _ in rows], [s for _, s in rows], filters, latents, steps=STEPS, guidance=GUIDANCE,
                        on_batch=partial(progress.advance, task),
                    )
                )  # fmt: skip
    chosen = choose(halves["copies"][0], halves["clear"][0])
    chosen["evidence"]["other_half"] = {
        "copies_flagged": flagged_share(halves["copies"][1], chosen["thresholds"]),
        "clear_flagged": flagged_share(halves["clear"][1], chosen["thresholds"]),
        "early_copies_caught": _early_share(halves["copies"][1], chosen["early"]),
        "early_false_alarms": _early_share(halves["clear"][1], chosen["early"]),
    }
    chosen["alternatives"] = _alternatives(
        prompts=_prompts(folder, "ordinary"), halves=halves["clear"], strict=chosen["strict"]
    )
    if chosen["early"]:
        # what it was calibrated under; `steerclear_lab.bench.early --apply` widens this as far as it finds no false alarm
        chosen["early"]["settings"] = {
            "schedulers": [type(pipe.scheduler).__name__], "steps": [STEPS, STEPS], "guidance": [GUIDANCE, GUIDANCE],
            "spacing": pipe.scheduler.config.timestep_spacing,
        }  # fmt: skip
    chosen["model"] = file_fingerprint(folder / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    library.write_note("calibration", chosen)
    library.write_snapshot()
    (folder / "calibration.json").write_text(
        json.dumps({**chosen, "scores": _listed(halves)}, indent=1) + "\n"
    )
    return chosen


def _alternatives(prompts: list[str], halves: list[Scores], strict: dict[str, float]) -> list[str]:
    """The ordinary prompts of which at least one picture stayed below the strict thresholds: worth being pulled towards.

    One that failed is no reason to drop a prompt: a steered picture is verified whatever pulled it, and the prompts nearest
    to a protected picture's, an owl in another style, are the ones that keep what was asked for.
    """
    each = CLEAR_SEEDS // 2
    clear = [
        torch.stack([values < strict[name] for name, values in half.final.items()]).all(0).view(-1, each)
        for half in halves
    ]
    return [prompt for i, prompt in enumerate(prompts) if any(bool(part[i].any()) for part in clear)]


def _early_share(scores: Scores, early: dict[str, Any] | None) -> float | None:
    if early is None:
        return None
    column = scores.early[:, early["step"]]
    return round(float((column >= early["threshold"]).float().mean()), 4)


def _listed(halves: dict[str, list[Scores]]) -> dict[str, Any]:
    return {
        name: [
            {f: [round(v, 4) for v in values.tolist()] for f, values in scores.final.items()}
            for scores in parts
        ]
        for name, parts in halves.items()
    }


def _prompts(folder: Path, name: str) -> list[str]:
    return [line.split("\t")[0] for line in (folder / "prompts" / f"{name}.txt").read_text().splitlines()]
