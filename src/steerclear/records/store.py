"""The records of one server or of several: opened, checked, brought up to date, closed."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType

import sqlalchemy as sa

from steerclear.records import chain, migrations, purging
from steerclear.records.database import Database, now
from steerclear.records.exporting import export
from steerclear.records.floods import HISTORY, WINDOW, Flood, floods
from steerclear.records.incidents import Incidents
from steerclear.records.keys import Keys
from steerclear.records.negatives import Negatives
from steerclear.records.sealing import Keep
from steerclear.records.verifying import Verdict, verify


class Records:
    """Keys and incidents in one database. Safe for threads, and for several processes on one database.

    Get one with `open`, in the process that uses it.

    Attributes:
        keys: who may use a server.
        incidents: what was not clear, and the reviewers' queue.
        negatives: overruled pictures, for calibration.
        name: the database's address, without its password.
    """

    def __init__(self, database: Database, keep: Keep) -> None:
        self._database = database
        self.name = database.name
        self.keys = Keys(database)
        self.incidents = Incidents(database, keep)
        self.negatives = Negatives(database, self.incidents, keep)

    @classmethod
    def open(cls, url: str, keep: Keep | None = None) -> Records:
        """Opens the records at an address; a SQLite file that does not exist yet is made.

        Args:
            url: `sqlite:///path`, a path, or `postgresql+psycopg://user@host/name`.
            keep: what is kept of an incident; by default its texts and no thumbnails.

        Raises:
            ConfigError: for an address that cannot be used.
            RecordsError: if it is out of reach, or not up to date.
        """
        database = Database(url)
        try:
            if database.file is not None:
                database.make_file()
                if migrations.is_empty(database):
                    migrations.upgrade(database)
            migrations.check(database)
        except BaseException:
            database.close()
            raise
        return cls(database, keep or Keep())

    @staticmethod
    def upgrade(url: str) -> tuple[str | None, str]:
        """Brings a database up to date, in one transaction; one that is empty gets its tables.

        Returns:
            The revision before, None for an empty database, and the one now.

        Raises:
            RecordsError: if that fails; the database is then as it was.
        """
        database = Database(url)
        try:
            if database.file is not None:
                database.make_file()
            return migrations.upgrade(database)
        finally:
            database.close()

    def verify(self, head: str | None = None) -> Verdict:
        """Reads the whole chain and says what is wrong with it, see `verifying.verify`.

        Args:
            head: hash of the last row at an earlier verification, kept outside the database.
        """
        with self._database.reading() as connection:
            return verify(connection, head)

    def export(self, file: Path) -> int:
        """Writes all records to a .jsonl or .parquet file and returns how many, see `exporting.export`."""
        return export(self._database, file)

    def purge(self, texts_older_than: timedelta | None = None) -> dict[str, int]:
        """Takes out thumbnails whose time is over, and old texts if asked to; see `purging.purge_old`."""
        return purging.purge_old(self._database, texts_older_than, now())

    def purge_incident(self, id: str, why: str) -> int:
        """Takes out the texts and pictures of one incident; see `purging.purge_one`."""
        return purging.purge_one(self._database, id, why)

    def floods(
        self, *, window: timedelta = WINDOW, history: timedelta = HISTORY, present: datetime | None = None
    ) -> list[Flood]:
        """Names items that suddenly match far more than their share; see `floods.floods`.

        Args:
            window: the time that is looked at.
            history: the time before it that it is compared with.
            present: end of the window; by default now.
        """
        return floods(self._database, present=present or now(), window=window, history=history)

    def note_share(self, item: str, percent: float, why: str) -> str:
        """Records that an item of the library is enforced for a share of the seeds from now on.

        Args:
            item: its id.
            percent: of the seeds, from 0 to 100.
            why: as it was given.

        Returns:
            The id of the record.
        """
        with self._database.writing() as connection:
            _, id = chain.append(connection, "share", {"percent": percent, "why": why}, item=item)
        return id

    def check_reachable(self) -> None:
        """Raises RecordsError unless the database answers."""
        with self._database.reading() as connection:
            connection.execute(sa.text("SELECT 1"))

    def close(self) -> None:
        """Closes all connections."""
        self._database.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
