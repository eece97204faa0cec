"""The worst of the copy detector's benchmark as one picture: copies that it missed, and pictures that it
flagged wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from steerclear.copy_detection.alterations import alterations
from steerclear_lab.bench.copy_detection.pictures import (
    BATCH,
    generations,
    ordinary_drawings,
    protected_sets,
    stamps,
)

Pair = tuple[str, Image.Image, Image.Image]
TILE, PAIRS, WORST = 96, 8, 48  # pixels of a picture, pairs in a row, pairs of each kind at most


def write(summary: Mapping[str, Any], drawn: Path, file: Path, unshipped: Path) -> None:
    """Draw the worst pictures, each beside the protected picture that it was taken for.

    summary: what `pages.write` returns; drawn: the folder of ordinary generations; file: PNG of what may be
    shipped;
    unshipped: PNG of pairs that show a stamp, whose licence is another.
    """
    all_stamps = stamps()
    sets, drawings = protected_sets(all_stamps), ordinary_drawings()
    shipped: list[Pair] = []
    others: list[Pair] = []
    for name, rows in summary["missed"].items():
        for row in rows[:WORST]:
            protected = sets[name][row["item"]]
            alter = alterations(list(drawings.values()), seed=row["number"])[row["kind"]][row["strength"]]
            pair = (f"missed: {row['kind']}, {row['strength']}", alter(protected), protected)
            (shipped if name == "embedded" else others).append(pair)
    for name, rows in summary["flagged others"].items():
        for row in rows[:WORST]:
            item, protected_set = row["item"], name.split(":")[0]
            picture = {**drawings, **all_stamps}.get(item) or generation(drawn, row["number"])
            pair = (f"no copy: {item.split('/')[-1]}", picture, sets[protected_set][row["matched"]])
            (shipped if protected_set == "embedded" and item not in all_stamps else others).append(pair)
    sheet(shipped, file)
    sheet(others, unshipped)


def generation(folder: Path, number: int) -> Image.Image:
    """One of the ordinary generations that lie in `folder`."""
    upto = (number // BATCH + 1) * BATCH
    return [picture for _, picture in generations(folder, upto)][number]


def sheet(pairs: Sequence[Pair], file: Path) -> None:
    """Pairs of (caption, picture, protected picture) as one PNG, side by side."""
    height, width = TILE + 14, 2 * TILE + 8
    canvas = Image.new("RGB", (PAIRS * width, max(1, -(-len(pairs) // PAIRS)) * height), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(9)
    for i, (caption, picture, protected) in enumerate(pairs):
        left, top = i % PAIRS * width, i // PAIRS * height
        for j, shown in enumerate((picture, protected)):
            small = shown.copy()
            small.thumbnail((TILE, TILE))
            canvas.paste(small, (left + j * TILE, top))
        pen.text((left, top + TILE), caption[:44], font=font, fill="black")
    canvas.save(file)
