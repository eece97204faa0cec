"""The chain of records: each row holds the hash of the one before, so that a change anywhere is seen."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from steerclear.errors import RecordsError
from steerclear.records.database import now, stamp
from steerclear.records.sealing import commitment, new_salt
from steerclear.records.tables import contents, records

BEGINNING = "0" * 64  # what the first row has for the hash of the one before
COLUMNS = ("seq", "id", "kind", "subject", "item", "written", "body", "previous")


@dataclass(frozen=True, slots=True)
class Content:
    """What a record commits to and may be purged.

    Attributes:
        value: the bytes, encrypted where they must not be read.
        expires: when `purge` may take it; None for when it is asked to.
    """

    value: bytes
    expires: datetime | None = None


def new_id(kind: str) -> str:
    """An id that nobody can guess, such as "inc-5f0c…"."""
    return f"{kind}-{secrets.token_hex(12)}"


def append(
    connection: Connection,
    kind: str,
    body: Mapping[str, Any],
    *,
    id: str | None = None,
    subject: str | None = None,
    item: str | None = None,
    held: Mapping[str, Content] | None = None,
) -> tuple[int, str]:
    """Adds one record; the connection must be in a `Database.writing` transaction.

    Args:
        connection: the transaction.
        kind: what it records: incident, decision, purge, …
        body: a JSON object.
        id: of the record; by default a new one.
        subject: the record that it is about.
        item: the protected item that it is about.
        held: contents by name that it commits to.

    Returns:
        Its place in the chain, from 1, and its id.

    Raises:
        RecordsError: for an id that is taken.
    """
    record_id = id or new_id(kind[:3])
    last = connection.execute(
        sa.select(records.c.seq, records.c.hash).order_by(records.c.seq.desc()).limit(1)
    ).first()
    if connection.execute(sa.select(records.c.seq).where(records.c.id == record_id)).first():
        raise RecordsError(f"there is a record {record_id!r} already; an id is used once")
    committed = {}
    for name, content in (held or {}).items():
        salt = new_salt()
        committed[name] = commitment(salt, content.value)
        expires = None if content.expires is None else stamp(content.expires)
        connection.execute(
            contents.insert().values(
                record=record_id, name=name, salt=salt, value=content.value, expires=expires
            )
        )
    row = {
        "seq": 1 if last is None else last.seq + 1,
        "id": record_id,
        "kind": kind,
        "subject": subject,
        "item": item,
        "written": stamp(now()),
        "body": json.dumps({**body, "contents": committed}, sort_keys=True, allow_nan=False),
        "previous": BEGINNING if last is None else last.hash,
    }
    connection.execute(records.insert().values(**row, hash=row_hash(row)))
    return int(row["seq"] or 0), record_id


def row_hash(row: Mapping[str, Any]) -> str:
    """SHA-256 of all columns of a record, the hash of the record before among them."""
    values = [row[name] for name in COLUMNS]
    return hashlib.sha256(json.dumps(values, ensure_ascii=True).encode()).hexdigest()


def of_kind(connection: Connection, kind: str, subject: str | None = None) -> Iterator[Row[Any]]:
    """The records of one kind, oldest first; of one subject, if one is given."""
    query = sa.select(records).where(records.c.kind == kind).order_by(records.c.seq)
    if subject is not None:
        query = query.where(records.c.subject == subject)
    yield from connection.execute(query)
