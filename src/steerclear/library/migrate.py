"""Bringing a library of an older format, or with other columns, to the columns of this format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.errors import LibraryError
from steerclear.library import images
from steerclear.library.creation import check_is_there
from steerclear.library.failures import lance_errors
from steerclear.library.schema import FORMAT, TURN, arrow_schema, other_columns, read_metadata
from steerclear.library.table import ITEMS, connect, local_folder, write_lock

if TYPE_CHECKING:
    import pyarrow as pa

# what an item gets that comes without it; the other columns cannot be made up
DEFAULTS: dict[str, Any] = {
    "source": "",
    "owner": "",
    "licence": "",
    "note": "",
    "caption": "",
    "tags": [],
    "policy": "steer",
    TURN: 0,
}


@dataclass(frozen=True, slots=True)
class Migration:
    """What a migration did.

    Attributes:
        version_before: the version that `restore` brings back as it was.
        version: the new one; the same if there was nothing to do.
        done: what was changed, in words.
    """

    version_before: int
    version: int
    done: tuple[str, ...]


def migrate(uri: str | Path, *, alone: bool = False) -> Migration:
    """Brings a library to this format in one commit; the version before can be restored.

    Columns that are missing get their defaults, columns of others are left out, and at an address the column
    is added by which writers take turns. Opening a library never changes it.

    Args:
        uri: the folder or address.
        alone: for an address: nobody else writes to it now, since what others add meanwhile would be lost.

    Raises:
        LibraryError: if it is no library, is of a newer format, or lacks what cannot be made up.
    """
    uri = str(uri)
    far = local_folder(uri) is None
    check_is_there(uri)
    with write_lock(uri), lance_errors(uri):
        table = connect(uri).open_table(ITEMS)
        before = int(table.version)
        old = table.schema
        version, specs = read_metadata(old, uri)
        lacking, foreign = other_columns(old, specs)
        turns = far and TURN not in old.names
        done = [f"format {version} is now {FORMAT}"] if version != FORMAT else []
        done += [f"column {name} brought in order" for name in lacking]
        done += [f"column {name} left out" for name in foreign]
        done += ["writers take turns"] if turns else []
        if not done:
            return Migration(before, before, ())
        if far and not alone:
            raise LibraryError(
                f"what others add to the library at {uri!r} during a migration would be lost: make sure that "
                "nobody writes to it, and say so with --alone"
            )
        new = arrow_schema(specs, turns=turns or TURN in old.names)
        made_up = (*DEFAULTS, "phash", "added")
        if missing := [name for name in new.names if name not in old.names and name not in made_up]:
            raise LibraryError(
                f"the library at {uri!r} cannot be migrated: it has no {', '.join(missing)}, which "
                "nothing can make up; it was left as it is: add its pictures to a new library"
            )
        if table.list_indices():
            done.append("the index is gone: build it again with `steerclear library index`")
        import pyarrow as pa

        rows = pa.RecordBatchReader.from_batches(new, _migrated(table, new, uri))
        table.add(rows, mode="overwrite")
        return Migration(before, int(table.version), tuple(done))


def _migrated(table: Any, new: pa.Schema, uri: str) -> Iterator[pa.RecordBatch]:
    """The rows of a table with the columns of another schema."""
    import pyarrow as pa

    now = datetime.now(UTC)
    for batch in table.search().to_batches():
        columns = []
        for field in new:
            if field.name in batch.schema.names:
                values = batch[field.name]
                if values.null_count and field.name in DEFAULTS:
                    filled = [DEFAULTS[field.name] if v is None else v for v in values.to_pylist()]
                    values = pa.array(filled, field.type)
            elif field.name == "phash":
                hashes = [images.phash(images.read_image(png)) for png in batch["thumbnail"].to_pylist()]
                values = pa.array(hashes, field.type)
            else:
                value = now if field.name == "added" else DEFAULTS[field.name]
                values = pa.array([value] * len(batch), field.type)
            if values.null_count:
                raise LibraryError(
                    f"the library at {uri!r} cannot be migrated: its column {field.name!r} has holes; it was "
                    "left as it is"
                )
            columns.append(values.cast(field.type))
        yield pa.record_batch(columns, schema=new)
