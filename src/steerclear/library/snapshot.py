"""A copy of a library's rows and notes in one Arrow file beside it, read in the place of the library.

Opening a library so does not import LanceDB, which takes a second. The copy is used only while the library's
files are the very bytes that it was made from: after any change LanceDB is read again. It is meant for the
library inside the package; each read hashes the whole folder, which is fast enough for small libraries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.library import notes
from steerclear.library.schema import METADATA_KEY, EncoderSpec, arrow_schema
from steerclear.library.table import ITEMS, NOTES, local_folder

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "snapshot.arrow"
_KEY = b"steerclear-snapshot"


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot holds.

    Attributes:
        rows: all columns of all items.
        notes: name → JSON document.
        version: of the library that it was made from.
    """

    rows: pa.Table
    notes: dict[str, Any]
    version: int

    def select(self, columns: Sequence[str], where: tuple[str, Sequence[str]] | None) -> pa.Table:
        """Returns some columns of all rows, or of the rows whose value in one column is among some values.

        Args:
            columns: the names of the columns to return.
            where: a column's name and the values that it may have; None for all rows.
        """
        rows = self.rows
        if where is not None:
            import pyarrow as pa

            column, values = where
            wanted = set(values)
            rows = rows.filter(pa.array([value in wanted for value in rows[column].to_pylist()], pa.bool_()))
        return rows.select(list(columns))


def read(uri: str) -> Snapshot | None:
    """Reads the snapshot of a library; None if there is none, or the library has changed since."""
    folder = local_folder(uri)
    if folder is None or not (folder / FILE).is_file():
        return None
    import pyarrow as pa

    try:
        with pa.ipc.open_file(folder / FILE) as file:
            rows = file.read_all()
        metadata = json.loads(rows.schema.metadata[_KEY])
        current = metadata["state"] == _state(folder)
        return Snapshot(rows, dict(metadata["notes"]), _version(folder)) if current else None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None  # the library itself is read instead


def write(uri: str, encoders: Sequence[EncoderSpec], read_rows: Callable[[], pa.Table]) -> Path:
    """Writes the snapshot of a local library beside it.

    Args:
        uri: the library's folder.
        encoders: the encoders that the library was built with.
        read_rows: reads all columns of all items; called when the old snapshot is gone.

    Returns:
        The file.

    Raises:
        ValueError: for a library in an object store.
    """
    folder = local_folder(uri)
    if folder is None:
        raise ValueError(f"a snapshot lies beside a library in a folder, and {uri!r} is an address")
    import pyarrow as pa

    (folder / FILE).unlink(missing_ok=True)
    rows, documents = read_rows(), notes.read_all(uri)
    library_metadata = arrow_schema(encoders).metadata[METADATA_KEY]
    snapshot_metadata = json.dumps({"state": _state(folder), "notes": documents}).encode()
    rows = rows.replace_schema_metadata({METADATA_KEY: library_metadata, _KEY: snapshot_metadata})
    with pa.ipc.new_file(folder / FILE, rows.schema) as file:
        file.write_table(rows)
    return folder / FILE


def _version(folder: Path) -> int:
    """The newest version of the items, by the names of Lance's manifests: the number, or what is left of it
    up to 2⁶⁴ - 1.
    """
    numbers = [int(path.stem) for path in (folder / f"{ITEMS}.lance" / "_versions").glob("*.manifest")]
    return max(number if number < 2**63 else 2**64 - 1 - number for number in numbers)


def _state(folder: Path) -> str:
    """Hash of every byte that LanceDB reads items and notes from."""
    digest = hashlib.sha256()
    for file in _files(folder):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """All files of the tables of items and notes, in a fixed order."""
    for table in (ITEMS, NOTES):
        yield from sorted(path for path in (folder / f"{table}.lance").rglob("*") if path.is_file())
