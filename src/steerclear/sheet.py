"""The comparison sheet: a row per request, protected | plain | handed out. A box shows where the plain
picture resembles the protected one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from steerclear.types import Outcome, Place, Report

CELL, GAP, MARGIN = 192, 28, 32
TITLES = ("protected", "plain pipeline", "handed out")
INK, FAINT, LINE, EMPTY = "#1c1e21", "#6b7280", "#e5e7eb", "#f3f4f6"
WIDE_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
)
COLOURS = {
    Outcome.CLEAR: "#4b5563",
    Outcome.STEERED: "#15803d",
    Outcome.WITHHELD: "#b91c1c",
    Outcome.OBSERVED: "#b45309",
}


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """One request of the sheet.

    Attributes:
        report: of the request.
        protected: the protected picture that was matched, or the nearest; None where there is none.
        protected_id: its id.
        plain: what the plain pipeline makes.
        handed_out: what the guard handed out; None where it was withheld.
    """

    report: Report
    protected: Image.Image | None
    protected_id: str | None
    plain: Image.Image
    handed_out: Image.Image | None


def compare_sheet(rows: Sequence[SheetRow]) -> Image.Image:
    """Draw the sheet: a row per request, the protected picture | the plain pipeline's | the one handed out.

    Args:
        rows: at least one request.

    Returns:
        An RGB picture.
    """
    big, text, small = (ImageFont.load_default(size) for size in (17, 14, 12))
    row_height = 26 + CELL + 22 + GAP
    left = [MARGIN + i * (CELL + GAP) for i in range(len(TITLES))]
    width = left[-1] + CELL + MARGIN
    sheet = Image.new("RGB", (width, MARGIN + 34 + row_height * len(rows) + MARGIN - GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for x, title in zip(left, TITLES, strict=True):
        draw.text((x, MARGIN), title, INK, big)
    for i, row in enumerate(rows):
        top = MARGIN + 34 + i * row_height
        draw.line((MARGIN, top - 4, width - MARGIN, top - 4), LINE)
        seed = f"seed {row.report.seed}"
        draw.text((width - MARGIN - draw.textlength(seed, text), top + 2), seed, FAINT, text)
        room = width - 2 * MARGIN - draw.textlength(seed, text) - 16
        prompt_font = text if row.report.prompt.isascii() else _wide_font(14)
        draw.text(
            (MARGIN, top + 2),
            _shortened(draw, text=row.report.prompt, font=prompt_font, room=room),
            INK,
            prompt_font,
        )
        for x, picture in zip(left, (row.protected, row.plain, row.handed_out), strict=True):
            _draw_cell(sheet, draw, corner=(x, top + 26), picture=picture)
        if row.report.where is not None:
            _draw_place(draw, corner=(left[1], top + 26), size=row.plain.size, place=row.report.where)
        if row.handed_out is None:
            draw.text((left[2] + CELL / 2, top + 26 + CELL / 2), "withheld", FAINT, text, anchor="mm")
        for x, (caption, colour) in zip(left, _captions(row), strict=True):
            draw.text(
                (x, top + 26 + CELL + 5), _shortened(draw, text=caption, font=small, room=CELL), colour, small
            )
    return sheet


def _wide_font(size: int) -> Any:
    """A system font with more letters than Pillow's own, if there is one."""
    for name in WIDE_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _captions(row: SheetRow) -> tuple[tuple[str, str], ...]:
    """Text and colour under each of the three pictures."""
    report = row.report
    name = row.protected_id or "none"
    before, after = (
        "" if score is None else f"{score:.2f}"
        for score in (report.similarity_before, report.similarity_after)
    )
    outcome = (str(report.outcome), after, f"{report.overhead:.1f}x cost")
    return (
        (name if report.matched else f"nearest: {name}", FAINT),
        (f"similarity {before}" if before else "", FAINT),
        ("  ·  ".join(part for part in outcome if part), COLOURS[report.outcome]),
    )


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, *, corner: tuple[int, int], picture: Image.Image | None
) -> None:
    """A picture in the middle of its cell, framed, since many are white at the edges themselves."""
    x, y = corner
    box = (x - 1, y - 1, x + CELL, y + CELL)
    draw.rectangle(box, EMPTY if picture is None else "white", LINE)
    if picture is None:
        return
    left, top, width, height = _fitted(picture.size)
    fitted = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    sheet.paste(fitted, (x + left, y + top))


def _draw_place(
    draw: ImageDraw.ImageDraw, *, corner: tuple[int, int], size: tuple[int, int], place: Place
) -> None:
    """A box around the part of a picture in its cell that shows the protected one."""
    left, top, width, height = _fitted(size)
    x, y = corner[0] + left, corner[1] + top
    x0, y0, x1, y1 = place.box
    first = x + x0 * width, y + y0 * height
    box = (*first, max(first[0], x + x1 * width - 1), max(first[1], y + y1 * height - 1))
    draw.rectangle(box, outline=COLOURS[Outcome.WITHHELD], width=2)


def _fitted(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of a picture in its cell."""
    scale = CELL / max(size)
    width, height = (max(1, round(side * scale)) for side in size)
    return (CELL - width) // 2, (CELL - height) // 2, width, height


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: Any, room: float) -> str:
    """The text in one line without line breaks, cut with an ellipsis where it does not fit."""
    line = " ".join(text.split())[:400]
    if draw.textlength(line, font) <= room:
        return line
    while line and draw.textlength(line + "…", font) > room:
        line = line[:-1]
    return line.rstrip() + "…"
