"""Beyond diffusion, measured: a VAE and a generator of a GAN's shape that have memorized a planted set, plain and guarded.

    python -m steerclear_lab.bench.beyond --train --out docs/benchmarks

trains both into `runs/beyond` (minutes on one core; what is finished there is taken as it is), then writes `beyond.json` (every
sample with its seed), `beyond.md` (the table, diffusion's figures of `main-job.json` beside them) and `beyond.png`.
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

COLUMNS = {
    "vae": "VAE, random codes",
    "reconstructions": "VAE, planted pictures in",
    "generator": "generator, random codes",
}
SHOWN = 8  # of every kind on the sheet
# the same measure under main-job.json's name
DIFFUSION = {
    "samples": "requests", "plain_flagged": "plain_flagged", "handed_out": "handed_out",
    "handed_out_flagged": "handed_out_flagged", "handed_out_within_0.1": "handed_out_within_0.1",
    "writers_block_rate": "writers_block_rate", "overhead_median": "overhead_median", "overhead_p95": "overhead_p95",
    "flagged_same_picture_by_clip": "plain_same_picture_by_clip", "steered_same_picture_by_clip": "same_picture_by_clip",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="train what is not yet trained")
    parser.add_argument("--work", type=Path, default=Path("runs/beyond"), help="checkpoints")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    if not args.train and not all((args.work / f"{name}.pt").exists() for name in ("vae", "generator")):
        raise InputError(f"there are no trained generators in {args.work}; run again with --train")
    vae = recipe.train_vae(args.work)
    generator = recipe.train_generator(args.work, vae)
    guards, looks = trial.guards(vae, generator), trial.Looks()
    rows = {
        "vae": _all(trial.random_codes(guards["vae"], looks, args.samples), args.samples, "vae"),
        "reconstructions": _all(trial.reconstructions(guards["vae"], looks), 8, "reconstructions"),
        "generator": _all(trial.random_codes(guards["generator"], looks, args.samples), args.samples, "generator"),
    }  # fmt: skip
    figures = {name: trial.summary(found) for name, found in rows.items()}
    figures["diffusion"] = diffusion(args.out / "main-job.json")
    args.out.mkdir(parents=True, exist_ok=True)
    sheet(rows, args.out / "beyond.png")
    for found in rows.values():
        for row in found:
            del row["pictures"]
    document = {
        "command": f"python -m steerclear_lab.bench.beyond --train --samples {args.samples}",
        "environment": {
            "steerclear": steerclear.__version__, "torch": torch.__version__, "python": platform.python_version(),
            "source": source_fingerprint(),
        },
        "summary": figures, "rows": rows,
    }  # fmt: skip
    (args.out / "beyond.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "beyond.md").write_text(page(document))
    print(page(document))


def _all(rows: Any, total: int, name: str) -> list[dict[str, Any]]:
    return list(track(rows, name, total=total))


def diffusion(file: Path) -> dict[str, Any]:
    """The embedded diffusion model's figures, under this benchmark's names; none where the file is not there."""
    if not file.exists():
        return {}
    document = json.loads(file.read_text())
    found, rows = document["summary"], document["planted"]
    steered = sorted(r["handed_out"]["pixel_l2"] for r in rows if r["outcome"] == "steered")
    return {
        **{name: found[key] for name, key in DIFFUSION.items() if key in found},
        "plain_within_0.1": sum(r["plain"]["pixel_l2"] < 0.1 for r in rows) / len(rows),
        "nearest_of_flagged_median": statistics.median(r["plain"]["pixel_l2"] for r in rows),
        "nearest_of_steered_median": statistics.median(steered),
        "nearest_of_steered_least": steered[0],
    }


def page(document: dict[str, Any]) -> str:
    """The figures as Markdown; every number comes from the document."""
    figures = document["summary"]
    names = [*COLUMNS, *(["diffusion"] if figures["diffusion"] else [])]
    titles = [COLUMNS.get(name, "[embedded diffusion model](main-job.md)") for name in names]
    lines = [
        "# Beyond diffusion", "", *remark(document["environment"], weights_matter=False), f"Made by `{document['command']}`.", "",
        f"| figure | {' | '.join(titles)} |", "|---|" + "---|" * len(names),
    ]  # fmt: skip
    for key in figures["vae"]:
        cells = [_cell(figures[name].get(key)) for name in names]
        lines.append(f"| {key.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *NOTES, "", "![pictures](beyond.png)", ""])


NOTES = (
    "Cost is in evaluations of the module that makes the picture, × the plain picture's; a backward pass counts two more. A plain",
    "VAE or GAN picture costs one evaluation, a plain picture of the diffusion model 50, so that these columns do not compare in",
    "seconds. Diffusion's requests are planted prompts alone, all of them flagged; its set is the 24 embedded pictures, here it is",
    "eight of them. Distances are pixel L2: `nearest` to the planted set,",
    "`to ordinary training` to the nearest ordinary training picture. On the sheet, each block holds the protected pictures, what",
    "the plain module makes, what is handed out instead, and plain pictures that no filter flags. Both generators were trained for",
    "minutes and draw softly, the plain and the handed-out alike. The filters keep the thresholds that were chosen on the diffusion",
    "model, and so pass some soft look-alikes (`clear same picture by clip`): calibrate on your own generator's pictures.",
)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items()) or "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def sheet(rows: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """For every kind: the protected pictures matched, the plain ones, what is handed out; then plain clear ones of each."""
    ids, planted = recipe.planted_pictures()
    strips: list[list[Image.Image | None]] = []
    for found in rows.values():
        hit = [r for r in found if r["outcome"] != "clear"][: 2 * SHOWN]
        strips.append([to_image(planted[ids.index(r["matched"])]) if r["matched"] else None for r in hit])
        strips += [[r["pictures"][side] for r in hit] for side in (0, 1)]
        clear = [r["pictures"][0] for r in found if r["outcome"] == "clear"][: 2 * SHOWN]
        strips += [clear] if clear else []
    size = recipe.training_pictures().shape[-1] + 2
    canvas = Image.new("RGB", (2 * SHOWN * size, len(strips) * size), "lightgrey")
    for y, strip in enumerate(strips):
        for x, picture in enumerate(strip):
            if picture is not None:
                canvas.paste(picture, (x * size, y * size))
    save_sheet(canvas, path)


if __name__ == "__main__":
    main()
