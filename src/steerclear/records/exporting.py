"""The chain as a file: JSON lines or Parquet, with the texts that are still there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from steerclear.errors import InputError
from steerclear.output import unwritable
from steerclear.records.database import Database
from steerclear.records.incidents import TEXTS
from steerclear.records.tables import contents, records

FORMATS = (".jsonl", ".parquet")
ROWS = 1000  # read at once
NUMBERS = ("seq",)  # all other columns are texts


def export(database: Database, file: Path) -> int:
    """Writes all records into a file, whole or not at all.

    The columns are those of the chain, `body` as the very text that was hashed, so that the file can be
    verified without the database; and `texts`, a JSON object, where an incident still has them. Thumbnails
    are not written.

    Args:
        database: the records.
        file: ends with .jsonl or .parquet.

    Returns:
        How many records were written.

    Raises:
        InputError: for another ending, or a file that cannot be written.
    """
    if file.suffix not in FORMATS:
        raise InputError(f"{str(file)!r} ends with none of {', '.join(FORMATS)}, which say how it is written")
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        try:
            write = _write_jsonl if file.suffix == ".jsonl" else _write_parquet
            # what the records say is for those alone who may read the database
            os.close(os.open(partial, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600))
            count = write(partial, _batches(database))
            os.replace(partial, file)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(file, error) from error
    return count


def _batches(database: Database) -> Iterator[list[dict[str, Any]]]:
    held = sa.and_(contents.c.record == records.c.id, contents.c.name == TEXTS)
    query = (
        sa.select(records, contents.c.value)
        .join_from(records, contents, held, isouter=True)
        .order_by(records.c.seq)
    )
    with database.reading() as connection:
        rows = connection.execution_options(yield_per=ROWS).execute(query)
        for batch in rows.partitions():
            yield [
                {name: value for name, value in row._asdict().items() if name != "value"}
                | {"texts": None if row.value is None else bytes(row.value).decode()}
                for row in batch
            ]


def _write_jsonl(file: Path, batches: Iterator[list[dict[str, Any]]]) -> int:
    count = 0
    with open(file, "w", encoding="utf-8") as stream:
        for batch in batches:
            stream.writelines(json.dumps(row) + "\n" for row in batch)
            count += len(batch)
        stream.flush()
        os.fsync(stream.fileno())
    return count


def _write_parquet(file: Path, batches: Iterator[list[dict[str, Any]]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*records.c.keys(), "texts"]
    schema = pa.schema([(name, pa.int64() if name in NUMBERS else pa.string()) for name in names])
    count = 0
    with pq.ParquetWriter(file, schema) as writer:
        for batch in batches:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count
