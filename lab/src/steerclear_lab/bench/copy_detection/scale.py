"""What a larger library costs the copy detector, and how many nominees it needs: the embedded set among
distractors.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steerclear.copy_detection import ProtectedSide
from steerclear.copy_detection.align import SIDE
from steerclear.copy_detection.alterations import alterations, pixels_of
from steerclear.copy_detection.features import squared
from steerclear.copy_detection.nominate import Sought, look, nominate
from steerclear_lab.bench.copy_detection.pictures import (
    LARGEST,
    embedded,
    flattened,
    ordinary_drawings,
    stamps,
)

CLIPART = Path("/usr/share/openclipart/png")
GET_CLIPART = "apt-get install --no-install-recommends openclipart-png"  # public domain
SIZES = (100, 1_000, 10_000)
NOMINEES = (1, 8, 20, 60, 100)
EVERY = 7  # of the altered copies that are looked for
HANDED = 200  # distractors described in one go


def scale(work: Path, sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """For each size of library: time to nominate, memory of an item, and recall of the right item among the
    nominees.

    work: folder in which the distractors' vectors are kept.
    """
    protected = {name: pixels_of(picture) for name, picture in embedded().items()}
    side = ProtectedSide.of(protected)
    copies = altered_copies()
    rows = []
    for size in sizes:
        sought = _among(side, size - len(side), work)
        times, ranks = [], []
        for row, picture in copies:
            looks = look(picture[None], side.whitening)[0]
            began = time.process_time()
            nominees = nominate(looks, sought, items=max(NOMINEES), each=1, keep=max(NOMINEES))
            times.append(1e3 * (time.process_time() - began))
            ranks.append(_rank(nominees.items, row))
        rows.append(
            {
                "items": size,
                "kB an item": round(side.bytes_each / 1024, 1),
                "ms to nominate": round(statistics.median(times), 1),
                **{f"recall of {n}": round(sum(r < n for r in ranks) / len(ranks), 4) for n in NOMINEES},
            }
        )
    return rows


def altered_copies() -> list[tuple[int, Tensor]]:
    """Every EVERYth altered copy of the embedded set with the row of its item, of all kinds."""
    others = list(ordinary_drawings().values())
    copies = [
        (row, pixels_of(alter(picture)))
        for row, picture in enumerate(embedded().values())
        for strengths in alterations(others, seed=row).values()
        for alter in strengths.values()
    ]
    return copies[::EVERY]


def distractors(count: int) -> list[Image.Image]:
    """Pictures of others: stamps and openclipart's drawings, and mirrored crops of them where these are too
    few.
    """
    if not CLIPART.is_dir():
        raise FileNotFoundError(f"{CLIPART} is missing; get the drawings by: {GET_CLIPART}")
    pictures = list(stamps().values())
    for file in sorted(CLIPART.rglob("*.png")):
        if len(pictures) >= count:
            break
        try:
            picture = flattened(file)
        except (OSError, ValueError):
            continue
        if min(picture.size) >= 24 and np.asarray(picture, dtype=float).std() >= 4:
            pictures.append(picture)
    first = len(pictures)
    for i in range(count - first):
        base = pictures[i % first].transpose(Image.Transpose.ROTATE_90)
        pictures.append(
            base.crop((0, 0, round(0.6 * base.width), round(0.6 * base.height))).resize((LARGEST, LARGEST))
        )
    return pictures[:count]


def _among(side: ProtectedSide, more: int, work: Path) -> Sought:
    """The parts of the protected side with those of `more` distractors."""
    file = work / f"distractors-{more}.pt"
    if not file.exists():
        grown = side
        small = [squared(pixels_of(p)[None], SIDE)[0] for p in distractors(more)]
        for first in range(0, len(small), HANDED):
            named = {f"other {first + i}": p for i, p in enumerate(small[first : first + HANDED])}
            grown = grown.with_more(named, skip_blank=True)
        torch.save((grown.sought.vectors, grown.sought.owners, grown.sought.kinds), file)
    vectors, owners, kinds = torch.load(file)
    return Sought(vectors, owners, kinds, side.sought.maps)


def _rank(items: Tensor, row: int) -> int:
    at = (items == row).nonzero().flatten()
    return int(at[0]) if len(at) else len(items) + max(NOMINEES)
