"""The JSON document of a benchmark and its page, on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read(file: Path) -> dict[str, Any]:
    """A document."""
    document: dict[str, Any] = json.loads(file.read_text())
    return document


def write(folder: Path, name: str, document: Mapping[str, Any], page: str) -> None:
    """Write `NAME.json` and `NAME.md` into a folder, which is created where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(text(document))
    (folder / f"{name}.md").write_text(page)


def text(document: Mapping[str, Any]) -> str:
    """A document as JSON, an entry a line."""
    return json.dumps(document, indent=1) + "\n"


def text_with_row_lines(document: Mapping[str, Any]) -> str:
    """A document as JSON whose `rows` take a line each, so that changes between versions can be read.

    Args:
        document: with a list `rows`, which is written last.
    """
    head = json.dumps({**{k: v for k, v in document.items() if k != "rows"}, "rows": []}, indent=1)
    rows = ",\n".join(json.dumps(row) for row in document["rows"])
    return head.removesuffix("[]\n}") + f"[\n{rows}\n]\n}}\n"


def stamp(file: Path, source: str) -> None:
    """Write a fingerprint of the source into the environments of a document; the rest of the file stays as it
    is.

    Args:
        file: the document. Where it has no environment, it gets one.
        source: as `environment.source_fingerprint` gives it.
    """
    before = file.read_text()
    document = json.loads(before)
    write_text = next(w for w in (text, text_with_row_lines) if _is_format(w, document, before))
    environments = list(_environments(document))
    if not environments:
        document = {"environment": {}, **document}
        environments = [document["environment"]]
    for environment in environments:
        environment["source"] = source
    file.write_text(write_text(document))


def _is_format(write_text: Any, document: Mapping[str, Any], before: str) -> bool:
    if write_text is text_with_row_lines and list(document)[-1:] != ["rows"]:
        return False
    return bool(write_text(document) == before)


def _environments(value: Any) -> Any:
    """Every environment in a document: its own, and those of documents that it was made from."""
    if not isinstance(value, dict):
        return
    for key, entry in value.items():
        if key == "environment":
            yield entry
        else:
            yield from _environments(entry)
