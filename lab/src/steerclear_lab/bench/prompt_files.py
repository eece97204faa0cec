"""Prompt files as other comparisons keep them, read as they are: .txt, .jsonl, .csv with semicolons, .parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steerclear.errors import InputError

FORMATS = ".txt (a prompt a line), .jsonl (caption, index, url), .csv with ';' (Caption;URL;type;…), .parquet (caption, url)"
# as files write the kinds of memorization: verbatim (matching) and template
KINDS = {
    "VM": "memorized",
    "V": "memorized",
    "MV": "memorized",
    "TM": "template",
    "T": "template",
    "TV": "template",
}


@dataclass(frozen=True)
class Row:
    """kind: "memorized", "template" or "ordinary"; url: where the training picture was, never fetched."""

    prompt: str
    kind: str = "memorized"
    url: str | None = None


def read(path: Path) -> list[Row]:
    """The prompts of a file, in order. Raises InputError for a format that is not known, a file without prompts, and a row
    without one."""
    readers = {".txt": _txt, ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise InputError(f"{str(path)!r} is no prompt file that is known; there are {FORMATS}")
    try:
        rows = list(readers[path.suffix.lower()](path))
    except OSError as error:
        raise InputError(f"cannot read the prompts {str(path)!r}: {error.strerror or error}") from error
    except ValueError as error:  # not UTF-8, no JSON, no parquet; InputError is one as well
        raise InputError(f"cannot read the prompts {str(path)!r}: {error}") from error
    if not rows:
        raise InputError(f"there is no prompt in {str(path)!r}")
    return rows


def _txt(path: Path) -> Iterable[Row]:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [Row(line.partition("\t")[0].strip()) for line in lines if line.strip()]


def _jsonl(path: Path) -> Iterable[Row]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise InputError(f"line {number} is no JSON object")
            yield _row(row, f"line {number}")


def _csv(path: Path) -> Iterable[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter=";"), 2):
            yield _row(row, f"line {number}")


def _parquet(path: Path) -> Iterable[Row]:
    import pyarrow.parquet as pq

    for number, row in enumerate(pq.read_table(path).to_pylist()):
        yield _row(row, f"row {number}")


def _row(row: Mapping[str, Any], where: str) -> Row:
    found = {str(key).strip().lower(): value for key, value in row.items() if key is not None}
    prompt = found.get("caption") or found.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"{where} has no caption: its columns are {', '.join(found)}")
    written = str(found.get("type") or found.get("overfit_type") or "").strip()
    kind = (
        written.lower()
        if written.lower() in ("ordinary", "template")
        else KINDS.get(written.upper(), "memorized")
    )
    url = found.get("url")
    return Row(prompt.strip(), kind, str(url) if url else None)
