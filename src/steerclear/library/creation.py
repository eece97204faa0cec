"""Making a library: whether there is one, whether there can be one, and its first commit."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from steerclear.errors import LibraryError
from steerclear.library.failures import FULL, lance_errors, no_room, read_only
from steerclear.library.table import ITEMS, LOCK, NEW, connect, holds_rows, local_folder, write_lock

MADE = b"steerclear-made"  # key of a name in the metadata of a table at an address, of whoever made it


def check_is_there(uri: str) -> None:
    """Raises LibraryError where a path holds no library; LanceDB would say the same of a damaged one."""
    folder = local_folder(uri)
    if folder is None:
        return
    try:
        os.stat(folder / f"{ITEMS}.lance")
        return
    except PermissionError as error:
        raise LibraryError(read_only(uri, error.strerror or str(error))) from error
    except (OSError, ValueError):  # no such path, or none that there can be
        with suppress(OSError, ValueError):
            if stat.S_ISDIR(os.stat(folder).st_mode):
                raise LibraryError(
                    f"the folder {uri!r} is no library; create one with `steerclear library add`"
                ) from None
            raise LibraryError(
                f"there is a file, not a library at {uri!r}; create one with `steerclear library add`"
            ) from None
    raise LibraryError(f"there is no library at {uri!r}; create one with `steerclear library add`")


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
        expected_names = (LOCK, NEW, f"{ITEMS}.lance")
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in expected_names)
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
    is_new = not folder.exists()
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
        if is_new:
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
