"""What the guides say in passing: how soon the default guard is ready, what a hash and a linear preview can see.

    python -m steerclear_lab.bench.details

writes `details.json` and `details.md`.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from steerclear.pixels import fit, to_image, to_tensor
from steerclear_lab.bench.judge import ordinary_pictures, protected_pictures

UNSEEN = 48  # ordinary pictures that the preview was not fitted to
SIZES = (48, 96, 128)  # of resized copies, in pixels
QUALITY = 50  # of JPEG copies
READY = "from steerclear import Guard; Guard.default(); import time; print(time.time())"


def ready(times: int) -> dict[str, Any]:
    """Seconds from starting a Python process until it has the default guard; another has read the files once before."""
    seconds = []
    for _ in range(times + 1):
        began = time.time()
        done = subprocess.run([sys.executable, "-c", READY], check=True, capture_output=True, text=True)
        seconds.append(round(float(done.stdout.split()[-1]) - began, 2))
    return {"seconds": seconds[1:], "median": round(statistics.median(seconds[1:]), 2)}


def hashed(pictures: Tensor) -> dict[str, Any]:
    """How many copies of the protected pictures the hash filter knows, and the shares of bits that decide."""
    from steerclear.filters.hash import HashFilter, pdq

    known = HashFilter.of([str(i) for i in range(len(pictures))], pictures)

    def found(copies: Tensor) -> dict[str, Any]:
        seen = known.check(copies)
        right = [d.flagged and d.matched == str(i) for i, d in enumerate(seen)]
        return {"n": len(seen), "found": sum(right), "least": round(min(d.score for d in seen), 4)}

    own = pdq(pictures)
    equal = torch.tensor((own[:, None] == own[None]).mean(axis=2))
    different = equal[~torch.eye(len(own), dtype=torch.bool)]
    return {
        "resized": {str(side): found(fit(pictures, side)) for side in SIZES}, "jpeg": found(torch.cat([_jpeg(p) for p in pictures])),
        "threshold": round(known.threshold, 4), "different_most": round(float(different.max()), 4),
    }  # fmt: skip


def _jpeg(picture: Tensor) -> Tensor:
    file = io.BytesIO()
    to_image(picture).save(file, "JPEG", quality=QUALITY)
    return to_tensor([Image.open(file).convert("RGB")])


def previewed(protected: Tensor, unseen: Tensor) -> dict[str, Any]:
    """Root mean squared error of previews that were fitted to `protected` on `unseen` ones, and of each one's mean colour."""
    from steerclear.guard import Guard
    from steerclear.steering.codecs import codec_for
    from steerclear.steering.preview import fit_preview

    pipe = Guard.default().pipe
    codec = codec_for(pipe)
    with torch.no_grad():
        latents = torch.cat([codec.encode(picture[None]) for picture in unseen])
        decoded = torch.cat([codec.decode(latent[None]) for latent in latents])
    small = F.adaptive_avg_pool2d(decoded, (latents.shape[-2], latents.shape[-1]))

    def error(guess: Tensor) -> float:
        return round(float((guess - small).square().mean().sqrt()), 4)

    return {
        "fitted_to": len(protected), "unseen": len(unseen),
        "rmse": {str(k): error(fit_preview(pipe, protected, k)(latents)) for k in (1, 3)},
        "rmse_one_colour": error(small.mean((0, 2, 3), keepdim=True).expand_as(small)),
    }  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """The Markdown page."""
    start, copies, preview = found["ready"], found["hash"], found["preview"]
    rows = [
        *((f"resized to {side} pixels", seen) for side, seen in copies["resized"].items()),
        (f"JPEG, quality {QUALITY}", copies["jpeg"]),
    ]
    return "\n".join([
        "# What the guides say in passing", "", f"Made by `{found['command']}`.", "", "## Ready", "",
        f"A new process has imported steerclear and made the default guard {start['median']} s after it was started (median of "
        f"{len(start['seconds'])}: {', '.join(map(str, start['seconds']))}), with {found['threads']} threads.",
        "", "## The hash filter", "",
        f"Copies of the embedded pictures that it knows, at its own threshold of {copies['threshold']} equal bits. Two different "
        f"ones share at most {copies['different_most']}.", "",
        "| copies | found | of | least share of equal bits |", "|---|---|---|---|",
        *(f"| {name} | {seen['found']} | {seen['n']} | {seen['least']} |" for name, seen in rows),
        "", "## The linear preview", "",
        f"Root mean squared error to the true decode, averaged down to the latent's size, of {preview['unseen']} ordinary pictures; "
        f"fitted to {preview['fitted_to']} protected ones.", "",
        "| preview | error |", "|---|---|",
        *(f"| neighbourhood {k} × {k} | {value} |" for k, value in preview["rmse"].items()),
        f"| the best single colour | {preview['rmse_one_colour']} |", "",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--starts", type=int, default=5)
    args = parser.parse_args()
    protected, others = protected_pictures()[1], ordinary_pictures()
    found = {
        "command": f"python -m steerclear_lab.bench.details --starts {args.starts}", "threads": torch.get_num_threads(),
        "ready": ready(args.starts), "hash": hashed(protected),
        "preview": previewed(protected, others[:: max(1, len(others) // UNSEEN)][:UNSEEN]),
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "details.json").write_text(json.dumps(found, indent=1) + "\n")
    (args.out / "details.md").write_text(page(found))


if __name__ == "__main__":
    main()
