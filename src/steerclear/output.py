"""What a request leaves on disk: pictures that carry their recipe, report lines, and the sheet for comparing."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from steerclear import __version__
from steerclear.errors import ImageError, InputError, ModelError
from steerclear.types import Outcome, Report

CHUNK = "steerclear"  # keyword of the PNG text chunk that holds the recipe
REPORT = "report.jsonl"
SHEET = "compare.png"


def save_png(path: Path, image: Image.Image, recipe: Mapping[str, Any] | None = None) -> None:
    """Write a PNG, whole or not at all, with `recipe` as JSON in its text chunk "steerclear".

    Raises InputError that names the file when it cannot be written.
    """
    info = PngInfo()
    if recipe is not None:
        info.add_text(CHUNK, json.dumps(finite(recipe), allow_nan=False))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            image.save(partial, "PNG", pnginfo=info)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def read_png(path: Path) -> tuple[Image.Image, dict[str, Any]]:
    """A PNG that steerclear wrote: its pixels as RGB, and its recipe.

    Raises ImageError when it is no readable PNG, InputError when it carries no recipe or a damaged one.
    """
    try:
        with Image.open(path, formats=("PNG",)) as opened:
            opened.load()
            text = dict(getattr(opened, "text", {}))
            image = opened.convert("RGB")
    except OSError as error:
        raise ImageError(f"cannot read {str(path)!r} as a PNG: {error.strerror or error}") from error
    except Exception as error:  # a broken file makes Pillow's decoder raise nearly anything
        raise ImageError(f"{str(path)!r} is broken: {error}") from error
    if CHUNK not in text:
        raise InputError(
            f"{str(path)!r} carries no recipe: give a PNG that `steerclear generate` wrote, not edited since"
        )
    try:
        recipe = json.loads(text[CHUNK])
    except (ValueError, RecursionError) as error:
        raise InputError(f"the recipe in {str(path)!r} is damaged: {error}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"the recipe in {str(path)!r} is damaged: it is no JSON object")
    return image, recipe


def report_line(report: Report, file: str | None) -> dict[str, Any]:
    """One line of report.jsonl. file: name of the picture beside the report, None where it was withheld.

    A score that is no number (a filter that failed) is written as null; its detection's `error` says why.
    """
    found = report.to_dict()
    names = (
        "prompt",
        "seed",
        "outcome",
        "matched",
        "before",
        "after",
        "reason",
        "nfe",
        "nfe_plain",
        "seconds",
    )
    line = {name: found[name] for name in names}
    line |= {"file": file, "overhead": report.overhead, "steerclear_version": __version__}
    line |= {"detections": found["detections"], "attempts": found["attempts"]}
    safe: dict[str, Any] = finite(line)
    return safe


class ReportFile:
    """report.jsonl in a folder: made with the first line, every line whole and on its way to disk at once."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / REPORT
        self._file: IO[bytes] | None = None

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, line: Mapping[str, Any]) -> None:
        """Add one line. Raises InputError when it cannot be written; the lines before it stay whole."""
        encoded = (json.dumps(line, allow_nan=False) + "\n").encode()
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115 - closed by __exit__
            start = self._file.tell()
            try:
                while encoded:
                    encoded = encoded[self._file.write(encoded) :]
            except OSError:
                self._file.truncate(start)  # a full disk must not leave half a line behind
                raise
        except OSError as error:
            raise unwritable(self.path, error) from error


def finite(value: Any) -> Any:
    """The same JSON value with None for every number that JSON cannot write: NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return value


def unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {str(path)!r}: {error.strerror or error}; choose another --out")


@cache
def model_fingerprint(folder: Path) -> str:
    """16 hex digits that change with any weight of a model folder: SHA-256 over its safetensors files.

    Names and sizes count as well as contents. Found once per folder and process. Raises ModelError for a
    folder without safetensors files, or one that cannot be read.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(folder.rglob("*.safetensors"))
        for path in files:
            digest.update(f"{path.relative_to(folder).as_posix()}\t{path.stat().st_size}\t".encode())
            with path.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise ModelError(f"cannot read the model in {str(folder)!r}: {error.strerror or error}") from error
    if not files:
        raise ModelError(
            f"{str(folder)!r} holds no .safetensors files, which a recipe needs to name the model; "
            "save it again with pipe.save_pretrained(folder)"
        )
    return digest.hexdigest()[:16]


# ── the sheet: a row per image, protected | plain | handed out ──────────────────────────────────────────────────

CELL, GAP, MARGIN = 192, 28, 32
TITLES = ("protected", "plain pipeline", "handed out")
INK, FAINT, LINE, EMPTY = "#1c1e21", "#6b7280", "#e5e7eb", "#f3f4f6"
COLOURS = {Outcome.CLEAR: "#4b5563", Outcome.STEERED: "#15803d", Outcome.WITHHELD: "#b91c1c"}


@dataclass(frozen=True)
class SheetRow:
    """One image of the sheet. protected: the matched item, or the nearest; handed_out: None where withheld."""

    report: Report
    protected: Image.Image | None
    protected_id: str | None
    plain: Image.Image
    handed_out: Image.Image | None


def compare_sheet(rows: Sequence[SheetRow]) -> Image.Image:
    """The sheet: per row what is protected, what the plain pipeline gives, and what was handed out instead."""
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
        draw.text((MARGIN, top + 2), _shortened(draw, row.report.prompt, prompt_font, room), INK, prompt_font)
        for x, picture in zip(left, (row.protected, row.plain, row.handed_out), strict=True):
            _cell(sheet, draw, x, top + 26, picture)
        if row.handed_out is None:
            draw.text((left[2] + CELL / 2, top + 26 + CELL / 2), "withheld", FAINT, text, anchor="mm")
        for x, (words, colour) in zip(left, _captions(row), strict=True):
            draw.text((x, top + 26 + CELL + 5), _shortened(draw, words, small, CELL), colour, small)
    return sheet


def _wide_font(size: int) -> Any:
    """A font of the system that knows more letters than Pillow's own, where there is one."""
    for name in (
        "DejaVuSans.ttf",
        "NotoSans-Regular.ttf",
        "LiberationSans-Regular.ttf",
        "Arial Unicode.ttf",
        "arial.ttf",
    ):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _captions(row: SheetRow) -> tuple[tuple[str, str], ...]:
    report = row.report
    name = row.protected_id or "none"
    before, after = (
        f"similarity {s:.2f}" if s is not None else ""
        for s in (report.similarity_before, report.similarity_after)
    )
    ending = (str(report.outcome), after.replace("similarity ", ""), f"{report.overhead:.1f}x cost")
    return (
        (name if report.matched else f"nearest: {name}", FAINT),
        (before, FAINT),
        ("  ·  ".join(part for part in ending if part), COLOURS[report.outcome]),
    )


def _cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, picture: Image.Image | None) -> None:
    """A picture in the middle of its cell, framed, since many stand on white themselves."""
    box = (x - 1, y - 1, x + CELL, y + CELL)
    draw.rectangle(box, EMPTY if picture is None else "white", LINE)
    if picture is None:
        return
    scale = CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    fitted = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    sheet.paste(fitted, (x + (CELL - size[0]) // 2, y + (CELL - size[1]) // 2))


def _shortened(draw: ImageDraw.ImageDraw, words: str, font: Any, room: float) -> str:
    """One line that fits: `words` without line breaks, cut with an ellipsis where it must be."""
    line = " ".join(words.split())[:400]
    if draw.textlength(line, font) <= room:
        return line
    while line and draw.textlength(line + "…", font) > room:
        line = line[:-1]
    return line.rstrip() + "…"
