"""The page of the sweep and its sheet of the worst pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from steerclear.embedded import PROTECTED_FOLDER
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import remark
from steerclear_lab.bench.sheets import save_sheet
from steerclear_lab.bench.sweep.figures import LABELS, OUTCOMES
from steerclear_lab.bench.sweep.judges import JUDGES
from steerclear_lab.pages import render, table

TILE, PAIRS = 96, 6  # pixels of a picture, pairs in a row of the sheet
LINE = 12  # pixels of a line of text under a pair


def page(document: Row) -> str:
    """The Markdown page of a document."""
    counted = Counter(row["label"] for row in document["worst"])
    return render(
        "sweep.md.j2",
        {
            "remark": remark(document["environment"]),
            "command": document["command"],
            "all": document["summary"]["all"],
            "groups": table(
                ["group", "requests", *OUTCOMES, "overhead", "copies", "by each judge", "prompts, bound"],
                [_row(name, figures) for name, figures in document["summary"].items()],
            ),
            "variants": table(
                ["group", "setting", "requests", *OUTCOMES, "overhead", "copies"],
                [
                    [row["group"], row["variant"], *_counts(row), _overhead(row), str(row["copies"])]
                    for row in document["variants"]
                ],
            ),
            "refusals": document["refusals"],
            "judges": document["judges"],
            "known": table(
                ["known copies", "pictures", *JUDGES, "any"],
                [
                    [row["kind"], str(row["pictures"]), *(f"{row[name]:.0%}" for name in (*JUDGES, "any"))]
                    for row in document["judges"]["known copies"]
                ],
            ),
            "worst": len(document["worst"]),
            "labels": {label: counted[label] for label in LABELS},
            "unlabelled": counted[None],
            "pairs": table(
                ["", "group", "setting", "asked for", "like", "outcome", "score", "by eye"],
                [
                    [
                        str(number),
                        row["group"],
                        row["variant"],
                        Path(row["asked_for"]).stem,
                        Path(row["like"]).stem,
                        row["outcome"],
                        f"{row['severity']:.2f}",
                        row["label"] or "–",
                    ]
                    for number, row in enumerate(document["worst"], 1)
                ],
            ),
        },
    )


def _row(name: str, figures: Row) -> list[str]:
    bound = figures["bound"]
    return [
        name,
        f"{figures['requests']} of {figures['planned']}",
        *_counts(figures)[1:],
        _overhead(figures),
        str(figures["copies"]),
        ", ".join(f"{judge} {figures[judge]}" for judge in JUDGES),
        f"{figures['prompts with a copy']} of {figures['prompts']}, {bound[0]:.0%}–{bound[1]:.0%}"
        if bound
        else "–",
    ]


def _counts(figures: Row) -> list[str]:
    return [str(figures[name]) for name in ("requests", *OUTCOMES)]


def _overhead(figures: Row) -> str:
    if figures["overhead median"] is None:
        return "–"
    return f"{figures['overhead median']:.2f} / {figures['overhead p95']:.2f}"


def sheet(worst: Sequence[Mapping[str, Any]], pictures: Path, file: Path) -> None:
    """Draw the worst pairs: the protected picture, beside it what was handed out, and its number.

    Args:
        worst: rows of `figures.worst`.
        pictures: folder of what was handed out, by key.
        file: PNG to be written.
    """
    width, height = 2 * TILE + 10, TILE + 2 * LINE + 6
    canvas = Image.new("RGB", (PAIRS * width, max(1, -(-len(worst) // PAIRS)) * height), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(9)
    for i, row in enumerate(worst):
        left, top = i % PAIRS * width, i // PAIRS * height
        for j, source in enumerate((PROTECTED_FOLDER / row["like"], pictures / f"{row['key']}.png")):
            with Image.open(source) as opened:
                shown = opened.convert("RGB")
            scale = TILE / max(shown.size)
            size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
            canvas.paste(shown.resize(size, Image.Resampling.BICUBIC), (left + j * TILE, top))
        text = f"{i + 1}  {row['group']}: {row['variant']}".replace("×", "x")  # the font lacks the sign
        pen.text((left, top + TILE), text[:40], font=font, fill="black")
        asked = f"asked for {Path(row['asked_for']).stem}, {row['severity']:.2f}"
        pen.text((left, top + TILE + LINE), asked[:40], font=font, fill="grey")
    save_sheet(canvas, file)
