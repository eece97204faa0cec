"""Smaller figures that the guides state: how soon the default guard is ready, what a hash and a linear
preview can see.

    python -m steerclear_lab.bench.details

writes `details.json` and `details.md`.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from steerclear.pixels import fit, to_image, to_tensor
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import benchmark_parser
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.judge import ordinary_pictures, protected_pictures
from steerclear_lab.pages import render, table

UNSEEN = 48  # ordinary pictures that the preview was not fitted to
SIZES = (48, 96, 128)  # of resized copies, in pixels
QUALITY = 50  # of JPEG copies
READY = "from steerclear import Guard; Guard.default(); import time; print(time.time())"


def start_up(times: int) -> dict[str, Any]:
    """Seconds from the start of a Python process until it has the default guard.

    Args:
        times: how many processes are measured, after one that reads the files into the system's cache.
    """
    seconds = []
    for _ in range(times + 1):
        began = time.time()
        done = subprocess.run([sys.executable, "-c", READY], check=True, capture_output=True, text=True)
        seconds.append(round(float(done.stdout.split()[-1]) - began, 2))
    return {"seconds": seconds[1:], "median": round(statistics.median(seconds[1:]), 2)}


def hash_recognition(pictures: Tensor) -> dict[str, Any]:
    """How many copies of pictures the hash filter recognises, and the shares of bits that decide.

    Args:
        pictures: (N, 3, S, S) in [0, 1].
    """
    from steerclear.filters.hash import HashFilter, pdq

    filter_ = HashFilter.of([str(i) for i in range(len(pictures))], pictures)

    def recognised(copies: Tensor) -> dict[str, Any]:
        detections = filter_.check(copies)
        correct = [d.flagged and d.matched == str(i) for i, d in enumerate(detections)]
        least = round(min(d.score for d in detections), 4)
        return {"n": len(detections), "found": sum(correct), "least": least}

    hashes = pdq(pictures)
    equal_bits = torch.tensor((hashes[:, None] == hashes[None]).mean(axis=2))
    different = equal_bits[~torch.eye(len(hashes), dtype=torch.bool)]
    return {
        "resized": {str(side): recognised(fit(pictures, side)) for side in SIZES},
        "jpeg": recognised(torch.cat([_jpeg(p) for p in pictures])),
        "threshold": round(filter_.threshold, 4),
        "different_most": round(float(different.max()), 4),
    }


def _jpeg(picture: Tensor) -> Tensor:
    """A picture after JPEG compression."""
    file = io.BytesIO()
    to_image(picture).save(file, "JPEG", quality=QUALITY)
    return to_tensor([Image.open(file).convert("RGB")])


def preview_errors(protected: Tensor, unseen: Tensor) -> dict[str, Any]:
    """Root mean squared errors of linear previews, and of each picture's mean colour.

    Args:
        protected: (N, 3, S, S) in [0, 1]; the previews are fitted to these.
        unseen: (M, 3, S, S) in [0, 1]; the errors are of these.
    """
    from steerclear.guard import Guard
    from steerclear.steering.codecs import codec_for
    from steerclear.steering.preview import fit_preview

    pipe = Guard.default().pipe
    codec = codec_for(pipe)
    with torch.no_grad():
        latents = torch.cat([codec.encode(picture[None]) for picture in unseen])
        decoded = torch.cat([codec.decode(latent[None]) for latent in latents])
    target = F.adaptive_avg_pool2d(decoded, (latents.shape[-2], latents.shape[-1]))

    def error(preview: Tensor) -> float:
        return round(float((preview - target).square().mean().sqrt()), 4)

    return {
        "fitted_to": len(protected),
        "unseen": len(unseen),
        "rmse": {str(k): error(fit_preview(pipe, protected, k)(latents)) for k in (1, 3)},
        "rmse_one_colour": error(target.mean((0, 2, 3), keepdim=True).expand_as(target)),
    }


def page(document: dict[str, Any]) -> str:
    """The Markdown page of a document."""
    hashes, preview = document["hash"], document["preview"]
    kinds = {f"resized to {side} pixels": seen for side, seen in hashes["resized"].items()}
    kinds[f"JPEG, quality {QUALITY}"] = hashes["jpeg"]
    copies = [[name, *(str(seen[key]) for key in ("found", "n", "least"))] for name, seen in kinds.items()]
    errors = [[f"neighbourhood {k} × {k}", str(error)] for k, error in preview["rmse"].items()]
    errors.append(["the best single colour", str(preview["rmse_one_colour"])])
    return render(
        "details.md.j2",
        {
            **document,
            "remark": remark(document.get("environment", {})),
            "copies": table(["copies", "recognised", "of", "least share of equal bits"], copies),
            "errors": table(["preview", "error"], errors),
        },
    )


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--starts", type=int, default=5, help="processes whose start is measured")
    args = parser.parse_args()
    protected, ordinary = protected_pictures()[1], ordinary_pictures()
    document = {
        "command": f"python -m steerclear_lab.bench.details --starts {args.starts}",
        "environment": environment(),
        "threads": torch.get_num_threads(),
        "ready": start_up(args.starts),
        "hash": hash_recognition(protected),
        "preview": preview_errors(protected, ordinary[:: max(1, len(ordinary) // UNSEEN)][:UNSEEN]),
    }
    documents.write(args.out, name="details", document=document, page=page(document))


if __name__ == "__main__":
    main()
