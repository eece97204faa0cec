"""What is taken out of the records while their chain stays whole."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from steerclear.errors import InputError, RecordsError
from steerclear.records import chain
from steerclear.records.database import Database, stamp
from steerclear.records.tables import contents, records

AT_ONCE = 1000  # contents in one transaction and one record


def purge_old(database: Database, texts_older_than: timedelta | None, present: datetime) -> dict[str, int]:
    """Takes out the thumbnails whose time is over, and, if asked to, old texts.

    Each batch is one transaction with the record that names it: whenever the process is killed, what is gone
    is named.

    Args:
        database: the records.
        texts_older_than: age from which an incident's texts are taken out; None leaves them.
        present: the time now.

    Returns:
        Name of the content → how many.

    Raises:
        InputError: for an age that is negative.
    """
    if texts_older_than is not None and texts_older_than < timedelta(0):
        raise InputError(f"texts older than {texts_older_than} cannot be purged; give an age of 0 or more")
    overdue = contents.c.expires <= stamp(present)
    which = [("thumbnails whose period is over", overdue)]
    if texts_older_than is not None:
        before = stamp(present - texts_older_than)
        old = sa.select(records.c.id).where(records.c.kind == "incident", records.c.written <= before)
        which.append((f"texts older than {texts_older_than}", _named("texts") & contents.c.record.in_(old)))
    counts: dict[str, int] = {}
    for why, condition in which:
        while taken := _batch(database, why, condition):
            for _, name in taken:
                counts[name] = counts.get(name, 0) + 1
    if counts:
        database.forget()
    return counts


def purge_one(database: Database, incident: str, why: str) -> int:
    """Takes out whatever may be purged of one incident, such as when a person asks for it.

    Args:
        database: the records.
        incident: its id.
        why: goes into the chain.

    Returns:
        How many contents that were.

    Raises:
        RecordsError: for an unknown id.
    """
    with database.writing() as connection:
        known = sa.select(records.c.id).where(
            (records.c.id == incident) | ((records.c.subject == incident) & (records.c.kind == "negative"))
        )
        ids = list(connection.execute(known).scalars())
        if incident not in ids:
            raise RecordsError(f"there is no record {incident!r}; nothing was purged")
        taken = purge_contents(connection, why, contents.c.record.in_(ids))
    if taken:
        database.forget()
    return len(taken)


def purge_contents(
    connection: Connection, why: str, condition: sa.ColumnElement[bool]
) -> list[tuple[str, str]]:
    """Takes out at most AT_ONCE contents, with one record that names them."""
    rows = connection.execute(
        sa.select(contents.c.record, contents.c.name).where(condition).limit(AT_ONCE)
    ).all()
    taken = [(row.record, row.name) for row in rows]
    if taken:
        connection.execute(contents.delete().where(sa.tuple_(contents.c.record, contents.c.name).in_(taken)))
        chain.append(connection, "purge", {"purged": [list(place) for place in taken], "why": why})
    return taken


def _batch(database: Database, why: str, condition: sa.ColumnElement[bool]) -> list[tuple[str, str]]:
    with database.writing() as connection:
        return purge_contents(connection, why, condition)


def _named(name: str) -> sa.ColumnElement[bool]:
    return contents.c.name == name
