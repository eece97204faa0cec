"""Small JSON documents that belong to a library, such as its calibration, in a Lance table of their own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from steerclear.errors import LibraryError
from steerclear.library.failures import lance_errors, read_again, retry_conflicts
from steerclear.library.table import NOTES, connect, open_if_there, write_lock

SHARE_OF = "share of "  # begins the names of the notes of `library.rollout`, one for each item


def read_all(uri: str) -> dict[str, dict[str, Any]]:
    """Reads all notes of a library.

    Args:
        uri: the folder or address of the library.

    Returns:
        Name → the newest document of that name.

    Raises:
        LibraryError: if they cannot be read.
    """
    with lance_errors(uri):
        table = open_if_there(uri, NOTES)
        rows = [] if table is None else read_again(lambda: table.search().to_list())
    return {row["name"]: _document(uri, row) for row in sorted(rows, key=lambda row: row["written"])}


def _document(uri: str, row: dict[str, Any]) -> dict[str, Any]:
    """The document in a row. Raises LibraryError for one that is damaged."""
    try:
        document = json.loads(row["json"])
        if isinstance(document, dict):
            return document
        reason = f"it holds a {type(document).__name__}, not a JSON object"
    except (ValueError, RecursionError) as error:
        reason = str(error)
    raise LibraryError(
        f"the note {row['name']!r} in the library at {uri!r} is damaged: {reason}; write it again"
    )


def write(uri: str, name: str, document: dict[str, Any]) -> None:
    """Stores a document under a name in one commit, in the place of an older one.

    Args:
        uri: the folder or address of the library.
        name: the note's name, such as "calibration".
        document: a JSON object.

    Raises:
        ValueError: if the document holds NaN or infinity.
        TypeError: if it holds something that JSON cannot write.
        LibraryError: if the library cannot be written to.
    """
    with write_lock(uri):
        put(uri, name, document)


def put(uri: str, name: str, document: dict[str, Any]) -> None:
    """Does what `write` does, for a caller that holds the lock."""
    import pyarrow as pa

    kinds = [("name", pa.string()), ("json", pa.string()), ("written", pa.timestamp("us", "UTC"))]
    schema = pa.schema([pa.field(column, kind, nullable=False) for column, kind in kinds])
    row = {"name": name, "json": json.dumps(document, allow_nan=False), "written": datetime.now(UTC)}
    rows = pa.Table.from_pylist([row], schema=schema)
    with lance_errors(uri):
        table = open_if_there(uri, NOTES)
        if table is None:
            table = connect(uri).create_table(NOTES, schema=schema, exist_ok=True)
        merge = table.merge_insert("name").when_matched_update_all().when_not_matched_insert_all()
        retry_conflicts(lambda: merge.execute(rows))
