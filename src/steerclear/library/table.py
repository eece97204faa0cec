"""What all tables of a library share: reaching LanceDB, its errors as ours, retries and the write lock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from steerclear.errors import LibraryError

T = TypeVar("T")
ITEMS, NOTES, LATENTS = "items", "notes", "latents"  # names of the tables
LOCK = ".write.lock"
LOCK_SECONDS = 300.0
ATTEMPTS = 30


def local_folder(uri: str) -> Path | None:
    """Returns the folder that `uri` names; None for an address such as s3://bucket/library.

    Raises:
        LibraryError: for a name that no folder can have, or that may not be looked at.
    """
    if "://" in uri:
        return None
    try:
        uri.encode()
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
    import lancedb

    with lance_errors(uri):
        return lancedb.connect(uri, read_consistency_interval=timedelta(0))


@contextmanager
def lance_errors(uri: str) -> Iterator[None]:
    """Turns whatever LanceDB raises inside the block into a LibraryError with the library and the cause."""
    try:
        yield
    except LibraryError:
        raise
    except PermissionError as error:
        raise LibraryError(
            f"no permission for the library at {uri!r}: {error.strerror or error}; check the folder's rights"
        ) from error
    except BaseException as error:
        # a panic in Lance's Rust code derives from BaseException; it is damage like any other
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        cause = str(error).split(", /")[0].removeprefix("lance error: ")[:300]
        if "Permission denied" in cause or "Read-only file system" in cause:
            raise LibraryError(f"the library at {uri!r} is read-only: copy it to change it") from error
        raise LibraryError(
            f"the library at {uri!r} is damaged or out of reach: {cause}; restore it from a backup, or "
            "create it anew and add the pictures again"
        ) from error


def retry_conflicts(commit: Callable[[], T]) -> T:
    """Runs `commit` until no other writer comes in between: Lance refuses a conflicting commit as a whole."""
    for attempt in range(ATTEMPTS):
        try:
            return commit()
        except (OSError, RuntimeError, ValueError) as error:
            if attempt == ATTEMPTS - 1 or "conflict" not in str(error).lower():
                raise
            time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))
    raise AssertionError("unreachable")


@contextmanager
def write_lock(uri: str) -> Iterator[None]:
    """Lets one process at a time write to a local library; the system frees the lock when its holder dies.

    Checking that a picture and its id are new, and the commit that follows, must be one step. An object store
    has no such lock: two writers that add the same file there at once may store it twice, which `verify`
    reports.

    Raises:
        LibraryError: if the library is read-only, or another process holds the lock for too long.
    """
    folder = local_folder(uri)
    if folder is None:
        yield
        return
    import filelock

    lock = filelock.FileLock(folder / LOCK, timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise LibraryError(
            f"another process has been writing to the library at {uri!r} for {LOCK_SECONDS:.0f} s; "
            "try again later"
        ) from error
    except OSError as error:
        raise LibraryError(
            f"the library at {uri!r} is read-only ({error.strerror}): copy it to change it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def quoted(values: list[str]) -> str:
    """Returns the values as a list of SQL string literals."""
    return ", ".join("'" + value.replace("'", "''") + "'" for value in values)


def holds_rows(uri: str, table: str = ITEMS) -> bool:
    """Returns whether a local library has files of a table's rows, readable or not; False for an address."""
    # Lance makes this folder with the first rows; without it a half-made table can be made again without loss
    folder = local_folder(uri)
    return folder is not None and (folder / f"{table}.lance" / "data").exists()


def remove_folder(uri: str) -> None:
    """Removes the folder of a library whose tables are gone; what else is in it stays."""
    folder = local_folder(uri)
    if folder is None:
        return
    with suppress(OSError):  # an empty folder that stays does no harm
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()


def make_folder(uri: str) -> None:
    """Makes the folder of a new library.

    Raises:
        LibraryError: if it cannot be made, holds a library, or holds anything else.
    """
    folder = local_folder(uri)
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in (LOCK, f"{ITEMS}.lance"))
    except OSError as error:
        raise LibraryError(
            f"cannot make a library at {uri!r}: {error.strerror}; choose another folder"
        ) from error
    if holds_rows(uri):
        raise LibraryError(f"there is a library at {uri!r} already; open it instead")
    if foreign:
        raise LibraryError(
            f"the folder {uri!r} is no library and holds {foreign[0]!r}; choose an empty folder"
        )
