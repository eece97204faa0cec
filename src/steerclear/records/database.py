"""One database by its address: transactions that are on disk when they end, and errors with a way out."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from steerclear.errors import ConfigError, RecordsError

PATIENCE = 60.0  # seconds that a writer waits for other processes' transactions
WRITERS_LOCK = 0x73746565  # of PostgreSQL's advisory lock, which all writers take


class Database:
    """A SQLite file or a PostgreSQL database, safe for threads and for several processes at once.

    Open it in the process that uses it: a connection does not survive a fork.

    Args:
        url: `sqlite:///path`, a path, or `postgresql+psycopg://…`.

    Attributes:
        name: the address without its password, for messages.

    Raises:
        ConfigError: for an address that cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self.name = self._url.render_as_string(hide_password=True)
        self._engine = _engine(self._url)
        # threads queue here: SQLite's own waiting polls, and favours nobody
        self._writing = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a SQLite file."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path | None:
        """The SQLite file; None for PostgreSQL."""
        return Path(str(self._url.database)) if self.is_sqlite else None

    def make_file(self) -> None:
        """Makes an empty SQLite file that only its owner can read, if there is none.

        Raises:
            RecordsError: if it cannot be made.
        """
        assert self.file is not None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise RecordsError(
                f"cannot make the database {str(self.file)!r}: {error.strerror or error}; name another place"
            ) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One snapshot of the whole database, whatever others write meanwhile."""
        with self._errors(), self._engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction beside which no other writer is at work; when the block has ended, it is on disk."""
        with (
            self._errors(),
            self._writing,
            self._engine.connect() as connection,
            connection.execution_options(steerclear_writes=True).begin(),
        ):
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITERS_LOCK)))
            yield connection

    def forget(self) -> None:
        """Overwrites on disk what was deleted: SQLite's log still holds it. PostgreSQL's next VACUUM does."""
        if self.is_sqlite:
            with self._errors(), self._engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            text = " ".join(str(cause).split())[:300]
            raise RecordsError(f"the database at {self.name!r} {_way_out(text)}") from error


def now() -> datetime:
    """The present time in UTC."""
    return datetime.now(UTC)


def stamp(time: datetime) -> str:
    """A time as the database holds it: texts in this form sort as the times do."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def time_of(text: str) -> datetime:
    """The time of a `stamp`."""
    return datetime.fromisoformat(text)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url if "://" in url else f"sqlite:///{url}")
    except ArgumentError as error:
        raise ConfigError(
            f"{url!r} is no address of a database; give sqlite:///path or postgresql+psycopg://…"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigError(f"the database {backend!r} is not supported; use a SQLite file or PostgreSQL")
    if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
        raise ConfigError(f"{url!r} names no file, and what is not on disk is lost; give sqlite:///path")
    return parsed


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": PATIENCE})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = sa.create_engine(url, pool_pre_ping=True)
    except ImportError as error:
        raise ConfigError("PostgreSQL needs psycopg; run: pip install 'steerclear[postgres]'") from error
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    # WAL: readers and one writer at once; FULL: the log is on disk before a commit returns
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # a transaction that reads first and writes then could not wait for another writer: it would fail
    writes = connection.get_execution_options().get("steerclear_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(connection: Any, record: Any) -> None:
    # a server may be set to acknowledge what is not on its disk yet
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        if cursor.fetchone()[0] == "off":
            cursor.execute("SET synchronous_commit = on")
    connection.commit()


def _way_out(cause: str) -> str:
    if "disk is full" in cause or "No space left" in cause or "disk I/O error" in cause:
        return f"cannot be written: {cause}; nothing was recorded: make room on its disk"
    if "readonly" in cause or "read-only" in cause or "unable to open" in cause or "denied" in cause:
        return f"cannot be opened: {cause}; check the path and its rights"
    if "locked" in cause:
        return f"is held by another process: {cause}; nothing was recorded: try again"
    if "append-only" in cause:
        return f"refuses the change: {cause}"
    return f"cannot be used: {cause}; check that it runs and that the address is right"
