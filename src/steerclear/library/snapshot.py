"""A library's rows and notes in one Arrow file beside it, for starts that cannot wait a second for LanceDB's import.

It speaks only for the very bytes of which it was taken: after any change to the library's files it is not looked at, and
LanceDB answers again. Made for the library inside the package; each read hashes the whole folder, which suits small ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.library import notes
from steerclear.library.schema import METADATA_KEY, arrow_schema
from steerclear.library.table import ITEMS, NOTES, local_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from steerclear.library.store import Library

FILE = "snapshot.arrow"
_KEY = b"steerclear-snapshot"


@dataclass(frozen=True)
class Snapshot:
    """rows: all columns of all items; notes: name → document."""

    rows: pa.Table
    notes: dict[str, Any]

    def select(self, columns: Sequence[str], among: tuple[str, Sequence[str]] | None) -> pa.Table:
        """Columns of all rows, or of those whose value in a column is among some."""
        rows = self.rows
        if among is not None:
            import pyarrow as pa

            column, values = among
            wanted = set(values)
            rows = rows.filter(pa.array([value in wanted for value in rows[column].to_pylist()], pa.bool_()))
        return rows.select(list(columns))


def read(uri: str) -> Snapshot | None:
    """What was taken of the library as it is now; None where nothing was, or the library is another by now."""
    folder = local_folder(uri)
    if folder is None or not (folder / FILE).is_file():
        return None
    import pyarrow as pa

    try:
        with pa.ipc.open_file(folder / FILE) as file:
            rows = file.read_all()
        about = json.loads(rows.schema.metadata[_KEY])
        fresh = about["state"] == _state(folder)
        return Snapshot(rows, dict(about["notes"])) if fresh else None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None  # LanceDB has the library itself


def write(library: Library) -> Path:
    """Take one of a local library, beside it. Raises ValueError for one in an object store."""
    folder = local_folder(library.uri)
    if folder is None:
        raise ValueError(f"a snapshot lies beside a library, and {library.uri!r} is in no folder")
    import pyarrow as pa

    (folder / FILE).unlink(missing_ok=True)
    rows, known = library.export(), notes.read_all(library.uri)
    about = arrow_schema(library.encoders).metadata[METADATA_KEY]
    taken = {"state": _state(folder), "notes": known}
    rows = rows.replace_schema_metadata({METADATA_KEY: about, _KEY: json.dumps(taken).encode()})
    with pa.ipc.new_file(folder / FILE, rows.schema) as file:
        file.write_table(rows)
    return folder / FILE


def _state(folder: Path) -> str:
    """Hash of every byte that LanceDB reads items and notes from."""
    found = hashlib.sha256()
    for file in _files(folder):
        found.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        found.update(file.read_bytes())
    return found.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for table in (ITEMS, NOTES):
        yield from sorted(path for path in (folder / f"{table}.lance").rglob("*") if path.is_file())
