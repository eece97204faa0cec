"""What goes wrong between a library and LanceDB, in our words; and what is worth another attempt."""

from __future__ import annotations

import errno
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from steerclear.errors import LibraryError, SteerclearError

T = TypeVar("T")
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
        raise LibraryError(meaning(error, uri)) from error


def meaning(error: BaseException, uri: str) -> str:
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
    folder = None if "://" in uri else Path(uri)
    if folder is None and "not found" in lower and "table" in lower:
        return f"there is no library at {uri!r} (not found); create one with `steerclear library add`"
    if folder is None and any(sign in lower for sign in FAR):
        return f"the library at {uri!r} cannot be reached: {cause}; check the address and the credentials"
    if folder is not None and not os.path.lexists(folder / "items.lance"):
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
