"""What all tables of a library share: reaching LanceDB, its errors as ours, retries and the write lock."""

from __future__ import annotations

import errno
import os
import random
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from steerclear.errors import LibraryError, SteerclearError

T = TypeVar("T")
ITEMS, NOTES, LATENTS = "items", "notes", "latents"  # names of the tables
LOCK = ".write.lock"
MADE = b"steerclear-made"  # key of a name in the metadata of a table at an address, of whoever made it
NEW = ".new"  # where the tables of a library are made, before they are moved to their place
LOCK_SECONDS = 300.0
ATTEMPTS = 30

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# what LanceDB says of a file that is not what it was when it was written
DAMAGE = (
    "sufficient data",
    "size is too small",
    "invalid range",
    "not found",
    "fill whole buffer",
    "invalid magic",
    "decode",
    "decompress",
    "corrupt",
    "checksum",
    "malformed",
    "unexpected end",
    "out of bounds",
)
# what it says where a store does not answer, or does not let us in
FAR = (
    "error sending request",
    "connect",
    "timed out",
    "timeout",
    "dns",
    "credential",
    "bucket",
    "accessdenied",
    "403 forbidden",
    "signature",
    "generic s3 error",
    "generic gcs error",
    "generic microsoftazure error",
    "status code",
)

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = "lancedb" in sys.modules  # a child that loads LanceDB itself has threads of its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
    with lance_errors(uri):
        import lancedb

        return lancedb.connect(uri, read_consistency_interval=timedelta(0))


@contextmanager
def lance_errors(uri: str) -> Iterator[None]:
    """Turns whatever LanceDB raises inside the block into a LibraryError that says what to do.

    Only a file that cannot be what was once written is called damage.

    Raises:
        LibraryError: for every error but our own, and at once in a forked child, where LanceDB's threads are
            missing: it would crash or wait for ever.
    """
    if _forked:
        raise LibraryError(
            f"the library at {uri!r} cannot be used in this process: it was forked from one that had "
            'opened a library; start it anew instead, for example with multiprocessing\'s method "spawn" or '
            '"forkserver", or open libraries only after the fork'
        )
    try:
        yield
    except SteerclearError:
        raise
    except BaseException as error:
        # a panic in Lance's Rust code derives from BaseException; it is damage like any other
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise LibraryError(_meaning(error, uri)) from error


def _meaning(error: BaseException, uri: str) -> str:
    """What an error says of a library, in our words."""
    # what follows the cause is where it lies in Lance's own source
    text = re.split(r", /\S+\.rs:\d+", str(error))[0].removeprefix("lance error: ")
    cause = " ".join(text.split())[:300]
    number = getattr(error, "errno", None)
    if number is None and (said := re.search(r"\(os error (\d+)\)", str(error))):
        number = int(said[1])
    if number in FULL:
        return no_room(uri, os.strerror(number))
    if number in FORBIDDEN or "Permission denied" in cause or "Read-only file system" in cause:
        return read_only(uri, os.strerror(number) if number else cause)
    lower = cause.lower()
    if isinstance(error, UnicodeError) or "parsing path" in lower or "failed to parse path" in lower:
        return (
            f"the path {uri!r} has a character that LanceDB cannot take, such as a tab, a newline or one "
            "that is no UTF-8; rename the folder or choose another one"
        )
    if number is not None and number != errno.ENOENT:
        return f"the library at {uri!r} cannot be reached now: {os.strerror(number)}; nothing was changed"
    if "conflict" in lower:
        return (
            f"others kept writing to the library at {uri!r}, and nothing was changed ({cause}); run it again"
        )
    folder = local_folder(uri)
    if folder is None and "not found" in lower and "table" in lower:
        return f"there is no library at {uri!r} (not found); create one with `steerclear library add`"
    if folder is None and any(sign in lower for sign in FAR):
        return f"the library at {uri!r} cannot be reached: {cause}; check the address and the credentials"
    if folder is not None and not os.path.lexists(folder / f"{ITEMS}.lance"):
        return gone(uri)
    if number == errno.ENOENT or type(error).__name__ == "PanicException" or _is_damage(lower):
        return (
            f"the library at {uri!r} is damaged: {cause}; restore it from a backup, or create it anew and "
            "add the pictures again"
        )
    return f"the library at {uri!r} cannot be used: {cause}; nothing was changed"


def _is_damage(text: str) -> bool:
    return any(sign in text for sign in DAMAGE)


def gone(uri: str) -> str:
    """What to say of a library that was open and is no longer there."""
    return f"there is no library at {uri!r} any more; create one with `steerclear library add`"


def no_room(uri: str, why: str) -> str:
    """What to say where nothing more can be written."""
    return (
        f"there is no room for the library at {uri!r}: {why}; everything committed before is safe: make room "
        "and run the same command again"
    )


def read_only(uri: str, why: str) -> str:
    """What to say where the rights are missing."""
    return (
        f"no permission for the library at {uri!r}, or it is read-only ({why}): check the folder's "
        "rights, or copy it to change it"
    )


def read_again(read: Callable[[], T]) -> T:
    """Runs `read` again where a file vanished under it: a compaction or a purge took it, and put another.

    Each read begins with the newest version, so that the next one finds all of its files. A file that is
    really lost stays so.
    """
    for _ in range(2):
        try:
            return read()
        except (OSError, RuntimeError, ValueError) as error:
            if "not found" not in str(error).lower():
                raise
    return read()


def is_conflict(error: Exception) -> bool:
    """Whether Lance refused a commit because another writer came in between."""
    return "conflict" in str(error).lower()


def pause(attempt: int) -> None:
    """Waits a moment before the next attempt, the longer the more there were, and unlike others."""
    time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))


def retry_conflicts(commit: Callable[[], T]) -> T:
    """Runs `commit` until no other writer comes in between: Lance refuses a conflicting commit as a whole."""
    for attempt in range(ATTEMPTS):
        try:
            return commit()
        except (OSError, RuntimeError, ValueError) as error:
            if attempt == ATTEMPTS - 1 or not is_conflict(error):
                raise
            pause(attempt)
    raise AssertionError("unreachable")


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
        raise LibraryError(_meaning(error, uri)) from error
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


def check_free(uri: str) -> None:
    """Checks that a library can be made at a folder; of an address only the attempt can tell.

    Raises:
        LibraryError: if there is one, the folder holds anything else, or it cannot be written to.
    """
    folder = local_folder(uri)
    if folder is None:
        return
    try:
        if holds_rows(uri):
            raise LibraryError(f"there is a library at {uri!r} already; open it instead")
        own = (LOCK, NEW, f"{ITEMS}.lance")
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in own)
    except (FileNotFoundError, NotADirectoryError):
        foreign = []
        nearest = next(path for path in folder.absolute().parents if path.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            why = "is no folder" if not nearest.is_dir() else "may not be written to"
            raise LibraryError(
                f"cannot make a library at {uri!r}: {str(nearest)!r} {why}; choose another folder"
            ) from None
    except (OSError, ValueError) as error:
        raise cannot_make(uri, error) from error
    if foreign:
        raise LibraryError(
            f"the folder {uri!r} is no library and holds {foreign[0]!r}; choose an empty folder"
        )


def cannot_make(uri: str, error: OSError | ValueError) -> LibraryError:
    """The error for a folder that cannot be made."""
    why = getattr(error, "strerror", None) or str(error)
    if getattr(error, "errno", None) in FULL:
        return LibraryError(no_room(uri, why))
    return LibraryError(f"cannot make a library at {uri!r}: {why}; choose another folder")


def create_items(uri: str, rows: Any) -> None:
    """Makes the table of items in one commit, rows and all; what fails or is killed leaves no library.

    Args:
        uri: where; `check_free` has passed.
        rows: an Arrow table with the library's columns.

    Raises:
        LibraryError: if there is a library already, or it cannot be made.
    """
    folder = local_folder(uri)
    if folder is None:
        with lance_errors(uri):
            name = secrets.token_hex(16).encode()
            rows = rows.replace_schema_metadata({**rows.schema.metadata, MADE: name})
            try:
                table = connect(uri).create_table(ITEMS, rows)
            except ValueError as error:
                if "already exists" not in str(error):
                    raise
                raise already(uri) from error
            if not _is_first(table, name):
                raise already(uri)
        return
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise cannot_make(uri, error) from error
    try:
        with write_lock(uri), lance_errors(uri):
            if (folder / f"{ITEMS}.lance" / "_versions").exists() or holds_rows(uri):
                raise already(uri)
            _create_aside(folder, rows)
    except BaseException:
        if made:
            with suppress(OSError):  # an empty folder that stays does no harm
                (folder / LOCK).unlink(missing_ok=True)
                folder.rmdir()
        raise


def _is_first(table: Any, name: bytes) -> bool:
    """Whether a table that was just made at an address is the only one; else the other one is put back.

    Where two processes make a table at once, Lance may commit the second as a version that replaces the
    first, instead of refusing it. Its own state is then taken back, and what others have added to it since is
    added again.
    """
    versions = [int(state["version"]) for state in table.list_versions()]
    ours = next(version for version in versions if _name(table, version) == name)
    table.checkout_latest()
    if ours == 1:
        return True
    table.restore(ours - 1)
    restored = int(table.version)
    if restored != ours + 1:
        table.checkout(restored - 1)
        since = table.to_arrow()
        table.checkout_latest()
        known = set(_hashes(table, ours)) | set(_hashes(table, restored))
        new = [sha256 not in known for sha256 in since["sha256"].to_pylist()]
        table.checkout_latest()
        table.add(since.filter(new))
    return False


def _name(table: Any, version: int) -> bytes | None:
    table.checkout(version)
    name: bytes | None = table.schema.metadata.get(MADE)
    return name


def _hashes(table: Any, version: int) -> list[str]:
    table.checkout(version)
    hashes: list[str] = table.search().select(["sha256"]).to_arrow()["sha256"].to_pylist()
    return hashes


def _create_aside(folder: Path, rows: Any) -> None:
    """Makes the table in a folder of its own and then moves it: a rename is whole or did not happen."""
    aside = folder / NEW
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    try:
        connect(str(aside)).create_table(ITEMS, rows)
        shutil.rmtree(folder / f"{ITEMS}.lance", ignore_errors=True)
        (aside / f"{ITEMS}.lance").rename(folder / f"{ITEMS}.lance")
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def already(uri: str) -> LibraryError:
    """The error for a library that is there already."""
    return LibraryError(f"there is a library at {uri!r} already; open it instead")
