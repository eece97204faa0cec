"""Reads prompt files as other comparisons keep them: .txt, .jsonl, .csv with semicolons, .parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.errors import InputError

FORMATS = (
    ".txt (a prompt a line), .jsonl (caption, index, url), .csv with ';' (Caption;URL;type;…), "
    ".parquet (caption, url)"
)
# how files write the kinds of memorization: verbatim (matching) and template
KINDS = {
    "VM": "memorized",
    "V": "memorized",
    "MV": "memorized",
    "TM": "template",
    "T": "template",
    "TV": "template",
}


@dataclass(frozen=True)
class PromptRow:
    """One prompt of a file.

    Attributes:
        prompt: its text.
        kind: "memorized", "template" or "ordinary".
        url: where the training picture was, if the file says so.
    """

    prompt: str
    kind: str = "memorized"
    url: str | None = None


def read(path: Path) -> list[PromptRow]:
    """The prompts of a file, in order.

    Raises:
        InputError: the format is unknown, the file holds no prompt or cannot be read, or a row has no prompt.
    """
    readers = {".txt": _txt, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise InputError(f"{str(path)!r} has no known format; prompt files are {FORMATS}")
    try:
        rows = list(readers[path.suffix.lower()](path))
    except OSError as error:
        raise InputError(f"cannot read the prompts {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:  # not UTF-8, no JSON, no parquet; InputError is one as well
        raise InputError(f"cannot read the prompts {str(path)!r}: {error}") from error
    if not rows:
        raise InputError(f"there is no prompt in {str(path)!r}")
    return rows


def _txt(path: Path) -> Iterable[PromptRow]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [PromptRow(line.partition("\t")[0].strip()) for line in lines if line.strip()]


def _jsonl(path: Path) -> Iterable[PromptRow]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise InputError(f"line {number} is no JSON object")
            yield _prompt_row(row, f"line {number}")


def _csv(path: Path) -> Iterable[PromptRow]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter=";"), 2):
            yield _prompt_row(row, f"line {number}")


def _parquet(path: Path) -> Iterable[PromptRow]:
    import pyarrow.parquet as pq

    for number, row in enumerate(pq.read_table(path).to_pylist()):
        yield _prompt_row(row, f"row {number}")


def _prompt_row(row: Mapping[str, Any], where: str) -> PromptRow:
    """A row of a file with columns. where: names it in an error."""
    columns = {str(key).strip().lower(): value for key, value in row.items() if key is not None}
    prompt = columns.get("caption") or columns.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"{where} has no caption: its columns are {', '.join(columns)}")
    written = str(columns.get("type") or columns.get("overfit_type") or "").strip()
    kind = (
        written.lower()
        if written.lower() in ("ordinary", "template")
        else KINDS.get(written.upper(), "memorized")
    )
    url = columns.get("url")
    return PromptRow(prompt.strip(), kind, str(url) if url else None)
