"""Measure the guard beyond diffusion: a VAE and a generator of a GAN's shape, plain and guarded.

    python -m steerclear_lab.bench.beyond --train --out docs/benchmarks

Both have memorized a planted set. They are trained into `runs/beyond` (minutes on one core; finished
checkpoints are used). Then `beyond.json` (every sample with its seed), `beyond.md` (the table, with the
diffusion model's figures of `main-job.json` beside it) and `beyond.png` are written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.progress import track

import steerclear
from steerclear.errors import InputError
from steerclear.pixels import to_image
from steerclear_lab.bench.beyond import recipe, trial
from steerclear_lab.bench.environment import remark, source_fingerprint
from steerclear_lab.bench.sheets import save_sheet
from steerclear_lab.pages import render, table

COLUMNS = {
    "vae": "VAE, random codes",
    "reconstructions": "VAE, planted pictures in",
    "generator": "generator, random codes",
}
RECONSTRUCTIONS = 8  # one for each planted picture
SHEET_COLUMNS = 16
# figure → its name in main-job.json
DIFFUSION = {
    "samples": "requests",
    "plain_flagged": "plain_flagged",
    "handed_out": "handed_out",
    "handed_out_flagged": "handed_out_flagged",
    "handed_out_within_0.1": "handed_out_within_0.1",
    "writers_block_rate": "writers_block_rate",
    "overhead_median": "overhead_median",
    "overhead_p95": "overhead_p95",
    "flagged_same_picture_by_clip": "plain_same_picture_by_clip",
    "steered_same_picture_by_clip": "same_picture_by_clip",
}
Row = dict[str, Any]


def main() -> None:
    """Train what is missing, measure, and write the document, the page and the sheet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="train the generators that have no checkpoint")
    parser.add_argument("--work", type=Path, default=Path("runs/beyond"), help="checkpoints")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if not args.train and not all((args.work / f"{name}.pt").exists() for name in ("vae", "generator")):
        raise InputError(f"there are no trained generators in {args.work}; run again with --train")
    vae = recipe.train_vae(args.work)
    generator = recipe.train_generator(args.work, vae)
    guards, measures = trial.guards(vae, generator), trial.PictureMeasures()
    trials = {
        "vae": (trial.random_codes(guards["vae"], measures, args.samples), args.samples),
        "reconstructions": (trial.reconstructions(guards["vae"], measures), RECONSTRUCTIONS),
        "generator": (trial.random_codes(guards["generator"], measures, args.samples), args.samples),
    }
    rows = {name: list(track(samples, name, total=total)) for name, (samples, total) in trials.items()}
    figures = {name: trial.summary(samples) for name, samples in rows.items()}
    figures["diffusion"] = diffusion(args.out / "main-job.json")
    args.out.mkdir(parents=True, exist_ok=True)
    sheet(rows, args.out / "beyond.png")
    for samples in rows.values():
        for row in samples:
            del row["pictures"]
    document = {
        "command": f"python -m steerclear_lab.bench.beyond --train --samples {args.samples}",
        "environment": {
            "steerclear": steerclear.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "source": source_fingerprint(),
        },
        "summary": figures,
        "rows": rows,
    }
    (args.out / "beyond.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "beyond.md").write_text(page(document))
    print(page(document))


def diffusion(file: Path) -> dict[str, Any]:
    """The embedded diffusion model's figures under this benchmark's names; empty without `main-job.json`."""
    if not file.exists():
        return {}
    document = json.loads(file.read_text())
    summary, rows = document["summary"], document["planted"]
    steered = sorted(r["handed_out"]["pixel_l2"] for r in rows if r["outcome"] == "steered")
    return {
        **{name: summary[key] for name, key in DIFFUSION.items() if key in summary},
        "plain_within_0.1": sum(r["plain"]["pixel_l2"] < 0.1 for r in rows) / len(rows),
        "nearest_of_flagged_median": statistics.median(r["plain"]["pixel_l2"] for r in rows),
        "nearest_of_steered_median": statistics.median(steered),
        "nearest_of_steered_least": steered[0],
    }


def page(document: dict[str, Any]) -> str:
    """The document's figures as a Markdown page."""
    figures = document["summary"]
    names = [*COLUMNS, *(["diffusion"] if figures["diffusion"] else [])]
    titles = [COLUMNS.get(name, "[embedded diffusion model](main-job.md)") for name in names]
    rows = [
        [key.replace("_", " "), *(_cell(figures[name].get(key)) for name in names)] for key in figures["vae"]
    ]
    values = {
        "command": document["command"],
        "remark": remark(document["environment"], weights_matter=False),
        "table": table(["figure", *titles], rows),
    }
    return render("beyond.md.j2", values)


def _cell(value: Any) -> str:
    """A figure as the table shows it."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sheet(rows: dict[str, list[Row]], path: Path) -> None:
    """Write the sheet: per trial the protected, plain and handed-out pictures, then plain clear ones."""
    ids, planted = recipe.planted_pictures()
    strips: list[list[Image.Image | None]] = []
    for samples in rows.values():
        flagged = [r for r in samples if r["outcome"] != "clear"][:SHEET_COLUMNS]
        matched = [r["matched"] for r in flagged]
        strips.append([to_image(planted[ids.index(item)]) if item else None for item in matched])
        strips += [[r["pictures"][side] for r in flagged] for side in (0, 1)]
        clear = [r["pictures"][0] for r in samples if r["outcome"] == "clear"][:SHEET_COLUMNS]
        strips += [clear] if clear else []
    size = recipe.training_pictures().shape[-1] + 2
    canvas = Image.new("RGB", (SHEET_COLUMNS * size, len(strips) * size), "lightgrey")
    for y, strip in enumerate(strips):
        for x, picture in enumerate(strip):
            if picture is not None:
                canvas.paste(picture, (x * size, y * size))
    save_sheet(canvas, path)


if __name__ == "__main__":
    main()
