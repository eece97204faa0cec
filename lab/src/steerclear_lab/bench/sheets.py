"""Contact sheets: small pictures side by side, prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from steerclear.embedded import PROTECTED_FOLDER, read_prompts

CELL, LEGEND = 66, 14  # pixels: a picture of 64 with its margin, and the line of numbers on top


def save_sheet(canvas: Image.Image, path: Path) -> None:
    """Save as PNG in 256 colours: a third of the size, without a visible difference."""
    canvas.quantize(256).save(path, optimize=True)


def strategy_sheet(
    pictures: Mapping[tuple[str, str], Image.Image | None], labels: Sequence[str], path: Path
) -> None:
    """Draw a row per prompt: the protected picture, then a numbered column per label, grey where nothing
    passed.

    Args:
        pictures: by (prompt, label).
        labels: the columns, in order.
        path: of the PNG.
    """
    planted = read_prompts("planted")
    files = {p: f for p, f in planted if any((p, label) in pictures for label in labels)}
    canvas = Image.new("RGB", ((1 + len(labels)) * CELL, LEGEND + len(files) * CELL), "lightgrey")
    draw = ImageDraw.Draw(canvas)
    for x in range(len(labels)):
        draw.text(((x + 1) * CELL + 24, 1), str(x + 1), "black")
    for y, (prompt, file) in enumerate(files.items()):
        top = LEGEND + y * CELL
        with Image.open(PROTECTED_FOLDER / str(file)) as protected:
            canvas.paste(protected.convert("RGB"), (0, top))
        for x, label in enumerate(labels, 1):
            picture = pictures.get((prompt, label))
            if picture is not None:
                canvas.paste(picture, (x * CELL, top))
    save_sheet(canvas, path)


def column_legend(labels: Iterable[str]) -> str:
    """What the numbered columns of a sheet are, in one line."""
    return "; ".join(f"{i} {label}" for i, label in enumerate(labels, 1))
