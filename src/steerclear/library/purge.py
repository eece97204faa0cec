"""Taking items out of every version of a library, so that none of their bytes is left, and proving it."""

from __future__ import annotations

import getpass
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.errors import LibraryError
from steerclear.library import approximate, notes, snapshot
from steerclear.library.compaction import drop_versions
from steerclear.library.failures import lance_errors, retry_conflicts
from steerclear.library.table import (
    ITEMS,
    LATENTS,
    NOTES,
    connect,
    local_folder,
    open_if_there,
    quoted,
    write_lock,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from steerclear.library.reading import LibraryReader

NOTE = "purges"
PENDING = "purge.arrow"  # what is being purged, in a local library's folder


@dataclass(frozen=True, slots=True)
class Purge:
    """What the log says of a purge: not what was purged.

    Attributes:
        when: in UTC, ISO 8601.
        who: did it.
        why: the reason.
        items: how many.
        finished: whether it came to its end; if not, the same command goes on with it.
    """

    when: str
    who: str
    why: str
    items: int
    finished: bool


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did.

    Attributes:
        items: how many it took out.
        version: the only one that is left.
        searched_files: how many files of the folder were searched for the items' bytes; None for an address,
            whose files are not read.
    """

    items: int
    version: int
    searched_files: int | None


def purges(uri: str) -> list[Purge]:
    """See `Library.purges`."""
    return [Purge(**row) for row in (notes.read_all(uri).get(NOTE) or {"purges": []})["purges"]]


def purge(library: LibraryReader, ids: Sequence[str], *, why: str, who: str, alone: bool) -> Purged:
    """See `Library.purge`."""
    uri, wanted = library.uri, list(dict.fromkeys(ids))
    if not wanted or not why.strip():
        raise LibraryError("a purge needs at least one id and a reason")
    folder = local_folder(uri)
    if folder is None and not alone:
        raise LibraryError(
            f"what others add to the library at {uri!r} during a purge would be lost: make sure that nobody "
            "writes to it, and say so with --alone"
        )
    with write_lock(uri), lance_errors(uri):
        begun = [known for known in purges(uri) if not known.finished]
        rows = _with_pending(folder, _in_any_version(uri, wanted))
        unknown = sorted(set(wanted) - set(rows["id"].to_pylist()))
        # a purge that was killed at its very end has left nothing of the items, nor of what it was to purge
        ended = len(unknown) == len(wanted) and any(known.items == len(wanted) for known in begun)
        if unknown and not ended:
            raise LibraryError(
                f"no item {', '.join(map(repr, unknown))} in any version of the library at {uri!r}; nothing "
                "was purged"
            )
        finished = [asdict(known) for known in purges(uri) if known.finished]
        entry = Purge(
            datetime.now(UTC).isoformat(),
            who=who or getpass.getuser(),
            why=why,
            items=len(wanted),
            finished=False,
        )
        notes.put(uri, NOTE, {"purges": [*finished, asdict(entry)]})
        if folder is not None:
            (folder / snapshot.FILE).unlink(missing_ok=True)
            _keep_pending(folder, rows)
        gone: list[str] = rows["id"].to_pylist()
        hashes: list[str] = rows["sha256"].to_pylist()
        latents = open_if_there(uri, LATENTS)
        if latents is not None:
            _rewrite(latents, f"sha256 NOT IN ({quoted(hashes)})" if hashes else "true", folder is not None)
        table = connect(uri).open_table(ITEMS)
        indexed = [spec.column for spec in library.encoders if approximate.has_index(table, spec.column)]
        _rewrite(table, f"id NOT IN ({quoted(gone)})" if gone else "true", folder is not None)
        for column in indexed:
            if table.count_rows() >= approximate.LEAST_ROWS:
                approximate.build(table, column)
        shares = quoted([notes.SHARE_OF + item for item in gone])
        _rewrite(
            connect(uri).open_table(NOTES), f"name NOT IN ({shares})" if gone else "true", folder is not None
        )
        searched = None
        if folder is not None:
            searched = _check_gone(folder, rows, library)
            (folder / PENDING).unlink(missing_ok=True)
        notes.put(uri, NOTE, {"purges": [*finished, asdict(entry) | {"finished": True}]})
        return Purged(len(wanted), library.version, searched)


def _keep_pending(folder: Path, rows: pa.Table) -> None:
    """Keeps what is being purged in a file until its absence is proven: the same command can then go on."""
    import pyarrow as pa

    partial = folder / f"{PENDING}.partial"
    with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    partial.replace(folder / PENDING)


def _with_pending(folder: Path | None, rows: pa.Table) -> pa.Table:
    """The rows to purge, and those of a purge that was interrupted."""
    import pyarrow as pa

    if folder is None or not (folder / PENDING).exists():
        return rows
    with pa.OSFile(str(folder / PENDING), "rb") as source:
        pending = pa.ipc.open_file(source).read_all()
    known = set(rows["id"].to_pylist())
    further = pending.filter(pa.array([item not in known for item in pending["id"].to_pylist()], pa.bool_()))
    return pa.concat_tables([rows, further], promote_options="default")


def _in_any_version(uri: str, ids: Sequence[str]) -> pa.Table:
    """All columns of the items that ever had these ids."""
    import pyarrow as pa

    table = connect(uri).open_table(ITEMS)
    pieces, known = [], set[str]()
    for state in reversed(table.list_versions()):
        table.checkout(state["version"])
        rows = table.search().where(f"id IN ({quoted(list(ids))})").to_arrow()
        pairs = [f"{row['id']} {row['sha256']}" for row in rows.select(["id", "sha256"]).to_pylist()]
        pieces.append(rows.filter(pa.array([pair not in known for pair in pairs], pa.bool_())))
        known.update(pairs)
    # an older version may lack a column that a migration has brought
    return pa.concat_tables(pieces, promote_options="default")


def _rewrite(table: Any, kept: str, locked: bool) -> None:
    """Writes the rows that a condition keeps into new files, and drops every older version and file."""
    import pyarrow as pa

    rows = table.search().where(kept).to_batches()
    schema = table.schema
    aligned = pa.RecordBatchReader.from_batches(
        schema, (pa.record_batch(batch.select(schema.names).columns, schema=schema) for batch in rows)
    )
    retry_conflicts(lambda: table.add(aligned, mode="overwrite"))
    drop_versions(table, None, unfinished=locked)


def _check_gone(folder: Path, rows: pa.Table, library: LibraryReader) -> int:
    """Searches every file of a folder for what the purged items were stored as; returns how many files.

    Raises:
        LibraryError: if any of it is there.
    """
    pending = folder / PENDING
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != pending]
    for item_id, what, content in _stored(rows, library):
        for path in files:
            if _holds(path, content) and not _is_of_another(library, what, content):
                raise LibraryError(
                    f"the {what} of {item_id!r} is still in {str(path)!r} after the purge: make sure that "
                    "no other process uses the library, and purge it again"
                )
    return len(files)


def _stored(rows: pa.Table, library: LibraryReader) -> Iterator[tuple[str, str, bytes]]:
    """Id, column and bytes of whatever identifies the items: Lance keeps these columns as they are."""
    import numpy as np

    for row in rows.to_pylist():
        yield row["id"], "sha256", row["sha256"].encode()
        yield row["id"], "thumbnail", row["thumbnail"]
        for spec in library.encoders:
            yield row["id"], spec.column, np.asarray(row[spec.column], np.dtype("<f4")).tobytes()


def _holds(path: Path, content: bytes) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return mapped.find(content) >= 0


def _is_of_another(library: LibraryReader, column: str, content: bytes) -> bool:
    """Whether an item that stays has the same: two files may be of the same pixels."""
    import numpy as np

    values = library._read((column,))[column].to_pylist()
    if column == "sha256":
        return content.decode() in values
    if column == "thumbnail":
        return content in values
    return any(np.asarray(value, np.dtype("<f4")).tobytes() == content for value in values)
