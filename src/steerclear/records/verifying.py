"""Reading the whole chain again: was anything changed, removed, added or moved since it was written?"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from steerclear.records.chain import BEGINNING, row_hash
from steerclear.records.sealing import commitment
from steerclear.records.tables import contents, keys, queue, records

Place = tuple[str, str]  # a record, and the name of a content


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification has seen.

    Attributes:
        records: how many rows there are.
        head: hash of the last row; `verify(head=…)` later shows whether anything up to it has changed.
        problems: each in one sentence; empty where the records are whole.
    """

    records: int
    head: str
    problems: list[str] = field(default_factory=list)


def verify(connection: Connection, head: str | None = None) -> Verdict:
    """Reads all records, and compares with them whatever else the database holds.

    A row that was changed, removed, added or moved is seen. So is a content that was changed, or removed in
    any other way than by a purge; a decision in the queue, and a key, that the chain knows otherwise. Rows
    cut off at the end, and a chain computed anew from some row on, are seen by a `head` that was kept
    elsewhere: a chain alone cannot show them.

    Args:
        connection: a `Database.reading` transaction.
        head: the head of an earlier verdict.
    """
    reading = _Reading()
    for row in _rows(connection, sa.select(records).order_by(records.c.seq)):
        reading.read(row, head)
    if head not in (None, BEGINNING) and not reading.head_seen:
        reading.problems.append(
            f"the head {head} is no row of the chain: its end was cut off, or it was written anew"
        )
    reading.compare_contents(connection)
    reading.compare_queue(connection)
    reading.compare_keys(connection)
    return Verdict(reading.count, reading.last, reading.problems)


class _Reading:
    """What the rows so far have said."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.count, self.seq, self.last, self.head_seen = 0, 0, BEGINNING, False
        self.contents: dict[Place, str] = {}  # commitments
        self.purged: set[Place] = set()
        self.decisions: dict[str, str | None] = {}  # by incident; None for none yet
        self.keys: dict[str, dict[str, Any]] = {}
        self.revoked: set[str] = set()

    def read(self, row: Row[Any], head: str | None) -> None:
        self.count += 1
        name = f"row {row.seq} ({row.id})"
        if row.seq != self.seq + 1:
            self.problems.append(f"{name} follows row {self.seq}: rows between them are missing")
        if row.previous != self.last:
            self.problems.append(f"{name} does not follow the row before it: one was removed or changed")
        if row.hash != row_hash(row._asdict()):
            self.problems.append(f"{name} was changed after it was written")
        self.seq, self.last = row.seq, row.hash
        self.head_seen = self.head_seen or row.hash == head
        try:
            self._note(row, json.loads(row.body))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.problems.append(f"{name} holds no readable body")

    def _note(self, row: Row[Any], body: dict[str, Any]) -> None:
        self.contents |= {(row.id, str(name)): str(value) for name, value in body["contents"].items()}
        if row.kind == "incident":
            self.decisions[row.id] = None
        elif row.kind == "decision":
            self.decisions[row.subject] = body["decision"]
        elif row.kind == "purge":
            self.purged |= {(str(record), str(name)) for record, name in body["purged"]}
        elif row.kind == "key" and "added" in body:
            self.keys[row.subject] = body["added"]
        elif row.kind == "key":
            self.revoked.add(row.subject)

    def compare_contents(self, connection: Connection) -> None:
        missing = set(self.contents) - self.purged
        for row in _rows(connection, sa.select(contents)):
            place, name = (row.record, row.name), f"the {row.name} of {row.record}"
            missing.discard(place)
            if place not in self.contents:
                self.problems.append(f"{name} belongs to no record")
            elif place in self.purged:
                self.problems.append(f"{name} is there, though it was purged")
            elif commitment(row.salt, row.value) != self.contents[place]:
                self.problems.append(f"{name} was changed after it was written")
        self.problems += [f"the {name} of {record} is gone, and no purge took it" for record, name in missing]

    def compare_queue(self, connection: Connection) -> None:
        missing = set(self.decisions)
        for row in _rows(connection, sa.select(queue)):
            missing.discard(row.incident)
            if row.incident not in self.decisions:
                self.problems.append(f"the queue holds {row.incident}, which is no incident")
            elif row.decision != self.decisions[row.incident]:
                self.problems.append(
                    f"the queue says {row.decision!r} of {row.incident}, its records "
                    f"{self.decisions[row.incident]!r}"
                )
        self.problems += [f"the incident {incident} is not in the queue" for incident in missing]

    def compare_keys(self, connection: Connection) -> None:
        missing = set(self.keys)
        for row in _rows(connection, sa.select(keys)):
            missing.discard(row.id)
            held = row._asdict()
            if {name: value for name, value in held.items() if name != "revoked"} != self.keys.get(row.id):
                self.problems.append(f"the key {row.id} is not as it was added")
            elif (held["revoked"] is not None) != (row.id in self.revoked):
                self.problems.append(f"the key {row.id} is revoked in the chain or in the table, not in both")
        self.problems += [f"the key {key} is gone" for key in missing]


def _rows(connection: Connection, query: sa.Select[Any]) -> Any:
    return connection.execution_options(yield_per=1000).execute(query)
