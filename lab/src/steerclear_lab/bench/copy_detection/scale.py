"""What a larger library costs the copy detector, and how many nominees it needs: the embedded set among
distractors.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.copy_detection import CopyDetector, ProtectedSide
from steerclear.copy_detection.align import SIDE
from steerclear.copy_detection.alterations import alterations
from steerclear.copy_detection.features import squared
from steerclear.copy_detection.nominate import look, nominate, whitening
from steerclear.copy_detection.windows import symmetries
from steerclear.pixels import to_tensor
from steerclear_lab.bench.copy_detection.pictures import (
    LARGEST,
    clipart,
    embedded,
    ordinary_drawings,
    stamps,
)

SIZES = (100, 1_000, 10_000)
NOMINEES = (1, 8, 20, 60, 100)
STEPS = 25  # of a generation
MANY = 10_000  # protected pictures among which a third of the copies is looked for
EVERY = 7  # of the altered copies that are looked for


def scale(work: Path, sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """For each size of library: time to nominate, memory of an item, and recall of the right item among the
    nominees.

    work: folder in which the distractors' vectors are kept.
    """
    protected = {name: to_tensor([picture])[0] for name, picture in embedded().items()}
    side = ProtectedSide.of(protected)
    copies = altered_copies()
    rows = []
    for size in sizes:
        sought = _among(side, size - len(side), work)
        times, ranks = [], []
        some = copies if size < MANY else copies[::3]
        for row, picture in some:
            looks = look(picture[None], whitening(), symmetries())[0]
            began = time.process_time()
            nominees = nominate(looks, sought, items=max(NOMINEES), each=1, keep=max(NOMINEES))
            times.append(1e3 * (time.process_time() - began))
            ranks.append(_rank(nominees.items, row))
        rows.append(
            {
                "items": size,
                "copies": len(some),
                "kB an item": round((side.pictures.nbytes + side.sought.nbytes) / len(side) / 1024, 1),
                "ms to nominate": round(statistics.median(times), 1),
                **{f"recall of {n}": round(sum(r < n for r in ranks) / len(ranks), 4) for n in NOMINEES},
            }
        )
    return rows


def beside_a_generation(work: Path, sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """What looking at a clear 512 px picture costs beside making it with a denoiser of Stable Diffusion 1.4's
    size, in processor time on the CPU.

    A generation is 25 steps with guidance; a step is measured by a pass of the U-Net with random weights, and
    text encoder and autoencoder are left out, so the shares are too high rather than too low.

    Args:
        work: folder in which the distractors' vectors are kept.
        sizes: of the library.
    """
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8).eval()
    latents, texts = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 768)
    with torch.no_grad():
        began = time.process_time()
        unet(latents, 500, texts)
    seconds = (time.process_time() - began) * STEPS
    side = ProtectedSide.of({name: to_tensor([picture])[0] for name, picture in embedded().items()})
    pictures = [
        p.resize((512, 512)) for p in list(ordinary_drawings().values())[:: len(ordinary_drawings()) // 12]
    ]
    shares = {}
    for size in sizes:
        many = replace(
            side,
            ids=tuple(map(str, range(size))),
            pictures=side.pictures[torch.arange(size) % len(side)],
            sought=_among(side, size - len(side), work)[:size],
        )
        detector, taken = CopyDetector(many), []
        for picture in pictures:
            began = time.process_time()
            detector.look(to_tensor([picture]))
            taken.append(time.process_time() - began)
        shares[str(size)] = {
            "ms": round(1e3 * statistics.median(taken)),
            "share": round(statistics.median(taken) / seconds, 5),
        }
    return {"seconds of a generation": round(seconds, 1), "pictures": len(pictures), "items": shares}


def altered_copies() -> list[tuple[int, Tensor]]:
    """Every EVERYth altered copy of the embedded set with the row of its item, of all kinds."""
    others = list(ordinary_drawings().values())
    copies = [
        (row, to_tensor([alter(picture)])[0])
        for row, picture in enumerate(embedded().values())
        for strengths in alterations(others, seed=row).values()
        for alter in strengths.values()
    ]
    return copies[::EVERY]


def distractors(count: int) -> list[Image.Image]:
    """Pictures of others: stamps, and openclipart's drawings that the whitening was not fitted on; mirrored
    crops of them where these are too few.
    """
    pictures = list(stamps().values())
    pictures += clipart(max(0, count - len(pictures)), first=1)
    drawn = len(pictures)
    for i in range(count - drawn):
        base = pictures[i % drawn].transpose(Image.Transpose.ROTATE_90)
        share, corner = 0.5 + 0.1 * (i // drawn % 4), 0.1 * (i // drawn // 4)
        left, top = round(corner * base.width), round(corner * base.height)
        box = (left, top, left + round(share * base.width), top + round(share * base.height))
        pictures.append(base.crop(box).resize((LARGEST, LARGEST)))
    return pictures[:count]


def _among(side: ProtectedSide, more: int, work: Path) -> Tensor:
    """What is sought of the protected side with that of `more` distractors."""
    file = work / f"distractors-{more}.pt"
    if not file.exists():
        named = {f"other {i}": squared(to_tensor([p]), SIDE)[0] for i, p in enumerate(distractors(more))}
        torch.save(ProtectedSide.of(named, skip_blank=True).sought, file)
    return torch.cat([side.sought, torch.load(file, weights_only=True)])


def _rank(items: Tensor, row: int) -> int:
    at = (items == row).nonzero().flatten()
    return int(at[0]) if len(at) else len(items) + max(NOMINEES)
