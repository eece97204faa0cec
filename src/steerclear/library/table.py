"""What all tables of a library share: reaching LanceDB, its errors as ours, retries and the write lock."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from steerclear.errors import LibraryError
from steerclear.library.failures import gone, lance_errors, meaning

T = TypeVar("T")
ITEMS, NOTES, LATENTS = "items", "notes", "latents"  # names of the tables
LOCK = ".write.lock"
NEW = ".new"  # where the tables of a library are made, before they are moved to their place
LOCK_SECONDS = 300.0


def local_folder(uri: str) -> Path | None:
    """Returns the folder that `uri` names; None for an address such as s3://bucket/library.

    Raises:
        LibraryError: for a name that no folder can have.
    """
    if "://" in uri:
        return None
    try:
        uri.encode()
        with suppress(PermissionError):  # whoever uses the folder says what is not permitted
            Path(uri).exists()
    except (OSError, UnicodeEncodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no valid UTF-8"
        raise LibraryError(f"{uri!r} cannot be the folder of a library: {reason}; choose another") from error
    return Path(uri)


def connect(uri: str) -> Any:
    """Returns a LanceDB connection whose tables always show what other processes have committed.

    Raises:
        LibraryError: if LanceDB cannot reach it.
    """
    with lance_errors(uri):
        import lancedb

        return lancedb.connect(uri, read_consistency_interval=timedelta(0))


@contextmanager
def write_lock(uri: str, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Lets one process at a time write to a local library; the system frees the lock when its holder dies.

    Checking that a picture and its id are new, and the commit that follows, must be one step. An object store
    has no such lock; there writers take turns, see `Library.insert`.

    Args:
        uri: the library.
        seconds: how long to wait for another writer.

    Raises:
        LibraryError: if the library is read-only, or another process holds the lock for too long.
    """
    folder = local_folder(uri)
    if folder is None:
        yield
        return
    import filelock

    lock = filelock.FileLock(folder / LOCK, timeout=seconds)
    try:
        os.stat(folder)  # the lock would make it
        lock.acquire()
    except filelock.Timeout as error:
        raise LibraryError(
            f"another process has been writing to the library at {uri!r} for {seconds:.0f} s; try again later"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise LibraryError(gone(uri)) from error
        raise LibraryError(meaning(error, uri)) from error
    try:
        yield
    finally:
        lock.release()


def quoted(values: list[str]) -> str:
    """Returns the values as a list of SQL string literals."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def open_if_there(uri: str, name: str) -> Any | None:
    """A table that not every library has; None where it was never written."""
    try:
        return connect(uri).open_table(name)
    except ValueError as error:
        # what was lost must not look like what was never made
        if "not found" not in str(error) or holds_rows(uri, name):
            raise
        return None


def holds_rows(uri: str, table: str = ITEMS) -> bool:
    """Returns whether a local library has files of a table's rows, readable or not; False for an address."""
    # Lance makes this folder with the first rows; without it a half-made table can be made again without loss
    folder = local_folder(uri)
    try:
        return folder is not None and (folder / f"{table}.lance" / "data").exists()
    except PermissionError:  # nobody can tell: then nothing may take its place
        return True
    except (OSError, ValueError):  # no path that there can be
        return False
