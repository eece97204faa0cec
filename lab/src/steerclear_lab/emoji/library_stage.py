"""Stage 6 of the recipe: the protected library, and thresholds from the finished model's own generations."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress

from steerclear.encoders.embedded import CopyDescriptor
from steerclear.fingerprints import file_fingerprint
from steerclear_lab.emoji.evaluate import GUIDANCE, STEPS
from steerclear_lab.emoji.thresholds import Scores, choose, collect, flagged_share

FIRST_SEED = 40_000
COPY_SEEDS, CLEAR_SEEDS = 8, 2  # per planted prompt, and per ordinary or held-out prompt


def build(folder: Path) -> None:
    """Write `folder/library` from `folder/protected`, embedded by the copy descriptor of `folder/model`.

    Args:
        folder: a finished folder.

    Raises:
        RuntimeError: if a picture could not be added.
    """
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
        raise RuntimeError(
            f"only {len(library)} of {len(files)} pictures are in the library; failed: {report.failed}"
        )


def calibrate(folder: Path) -> dict[str, Any]:
    """Choose the thresholds on one half of the seeds, and measure them on the other.

    Both go into the library's note "calibration"; with the scores they also go into
    `folder/calibration.json`.

    Args:
        folder: a finished folder with its library.

    Returns:
        The thresholds, and the evidence for them.
    """
    from steerclear.library import Library
    from steerclear.pipelines import load_pipeline

    pipe = load_pipeline(folder / "model")
    library = Library.open(folder / "library")
    halves = _scores(folder, pipe, library)
    calibration = choose(halves["copies"][0], halves["clear"][0])
    thresholds, early = calibration["thresholds"], calibration["early"]
    calibration["evidence"]["other_half"] = {
        "copies_flagged": flagged_share(halves["copies"][1], thresholds),
        "clear_flagged": flagged_share(halves["clear"][1], thresholds),
        "early_copies_caught": _early_share(halves["copies"][1], early),
        "early_false_alarms": _early_share(halves["clear"][1], early),
    }
    calibration["alternatives"] = _alternatives(
        prompts=_prompts(folder, "ordinary"), halves=halves["clear"], strict=calibration["strict"]
    )
    if early:
        # the settings of the calibration; `steerclear_lab.bench.early --apply` widens them as far as it finds
        # no false alarm
        early["settings"] = {
            "schedulers": [type(pipe.scheduler).__name__],
            "steps": [STEPS, STEPS],
            "guidance": [GUIDANCE, GUIDANCE],
            "spacing": pipe.scheduler.config.timestep_spacing,
        }
    calibration["model"] = file_fingerprint(folder / "model" / "unet" / "diffusion_pytorch_model.safetensors")
    library.write_note("calibration", calibration)
    note_prompts(library, pipe, _prompts(folder, "ordinary"))
    library.write_snapshot()
    document = {**calibration, "scores": _listed(halves)}
    (folder / "calibration.json").write_text(json.dumps(document, indent=1) + "\n")
    return calibration


def note_prompts(library: Any, pipe: Any, prompts: list[str]) -> None:
    """Note what ordinary prompts say of a model; which of them are clear stands in its calibration."""
    from steerclear.calibrate import note_of, ordinary_prompts
    from steerclear.fingerprints import sampled_fingerprint
    from steerclear.generators.accepted import denoiser_of
    from steerclear.loading import ORDINARY_PROMPTS
    from steerclear.protected import Protected

    ordinary = ordinary_prompts(
        pipe, protected=Protected(pipe, library.pictures()), prompts=prompts, clear=(), steps=STEPS
    )
    model = sampled_fingerprint(denoiser_of(pipe))
    assert model is not None
    before = library.read_note(ORDINARY_PROMPTS) or {}
    library.write_note(ORDINARY_PROMPTS, {**before, model: note_of(ordinary)})


def _scores(folder: Path, pipe: Any, library: Any) -> dict[str, list[Scores]]:
    """The scores of copies and of clear pictures, two halves of the seeds each."""
    from steerclear.filters.library import FilterParts, library_filters
    from steerclear.pipelines import latent_like
    from steerclear.protected import Protected

    encoder = CopyDescriptor.load(folder / "model" / "descriptor")
    # the scores do not depend on the thresholds
    no_thresholds = {"nearest": 1.0, "pixel": 0.9, "tiled": 1.0, "copy": 1.0}
    filters = library_filters(FilterParts(library, [encoder], no_thresholds))
    protected = Protected(pipe, library.pictures())
    latents = protected.latents(tuple(protected.pictures), latent_like(pipe))
    jobs = {
        "copies": (_prompts(folder, "planted"), COPY_SEEDS),
        "clear": (_prompts(folder, "ordinary") + _prompts(folder, "heldout"), CLEAR_SEEDS),
    }
    halves: dict[str, list[Scores]] = {"copies": [], "clear": []}
    with Progress() as progress:
        for name, (prompts, seeds) in jobs.items():
            task = progress.add_task(f"calibrate: {name}", total=len(prompts) * seeds)
            for half in range(2):
                numbers = range(half * seeds // 2, (half + 1) * seeds // 2)
                requests = [
                    (prompt, FIRST_SEED + 1000 * s + i) for i, prompt in enumerate(prompts) for s in numbers
                ]
                scores = collect(
                    pipe,
                    prompts=[prompt for prompt, _ in requests],
                    seeds=[seed for _, seed in requests],
                    filters=filters,
                    latents=latents,
                    steps=STEPS,
                    guidance=GUIDANCE,
                    on_batch=partial(progress.advance, task),
                )
                halves[name].append(scores)
    return halves


def _alternatives(prompts: list[str], halves: list[Scores], strict: dict[str, float]) -> list[str]:
    """The ordinary prompts of which at least one picture stayed below the strict thresholds.

    One failed picture is no reason to drop a prompt. A steered picture is verified in any case, and the
    prompts nearest to a protected picture's, an owl in another style, keep most of the request.
    """
    each = CLEAR_SEEDS // 2
    clear = [
        torch.stack([values < strict[name] for name, values in half.final.items()]).all(0).view(-1, each)
        for half in halves
    ]
    return [prompt for i, prompt in enumerate(prompts) if any(bool(part[i].any()) for part in clear)]


def _early_share(scores: Scores, early: dict[str, Any] | None) -> float | None:
    """The share of pictures that the early verdict flags; None where there is no early verdict."""
    if early is None:
        return None
    column = scores.early[:, early["step"]]
    return round(float((column >= early["threshold"]).float().mean()), 4)


def _listed(halves: dict[str, list[Scores]]) -> dict[str, Any]:
    """All scores as JSON."""
    return {
        name: [
            {filter_: [round(v, 4) for v in values.tolist()] for filter_, values in scores.final.items()}
            for scores in parts
        ]
        for name, parts in halves.items()
    }


def _prompts(folder: Path, name: str) -> list[str]:
    """The prompts of one list of a finished folder."""
    return [line.split("\t")[0] for line in (folder / "prompts" / f"{name}.txt").read_text().splitlines()]
