"""Reading files that somebody else may have named: regular ones, of a limited size, where they may lie."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from steerclear.errors import InputError

MAX_TEXT = 64 * 2**20  # bytes of a text, such as a list of prompts; a million prompts have about as many
MAX_BYTES = 256 * 2**20  # of one picture's file; a photograph of 80 megapixels has about a tenth


@dataclass(frozen=True)
class Reach:
    """What the rows of a list may reach. What the user names directly is always read.

    Attributes:
        remote: addresses with "://".
        outside: paths that lead out of the list's own folder.
        max_bytes: of one file.
    """

    remote: bool = False
    outside: bool = False
    max_bytes: int = MAX_BYTES


def read_file(path: str | Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file.

    Args:
        path: where it lies.
        max_bytes: larger files are refused before they are read.

    Raises:
        InputError: for a device, a pipe, a folder and the like, and for a larger file.
        OSError: if it cannot be read.
    """
    with open_file(path) as stream:
        # a file in /proc says that it is empty, and may grow while it is read
        return _limited(stream.read(max_bytes + 1), str(path), max_bytes)


def open_file(path: str | Path) -> BinaryIO:
    """A regular file, open for reading.

    Raises:
        InputError: for a device, a pipe, a folder and the like.
        OSError: if it cannot be opened.
    """
    # without waiting for the other end of a pipe
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{str(path)!r} is no regular file")
    return os.fdopen(descriptor, "rb")


def read_text(path: str | Path, what: str) -> str:
    """The text of a regular file: UTF-8, with or without a byte order mark.

    Args:
        path: where it lies.
        what: what it holds, for the message, such as "prompts".

    Raises:
        InputError: for what is no regular file, has more than MAX_TEXT bytes, cannot be read or is no text.
    """
    try:
        return read_file(path, MAX_TEXT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text ({error.reason})"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:  # a name with a zero byte, and what read_file refuses
        reason = str(error)
    raise InputError(f"cannot read the {what} {str(path)!r}: {reason}")


def read_address(address: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes behind an address that fsspec knows.

    Args:
        address: with "://".
        max_bytes: larger files are refused.

    Raises:
        InputError: for a larger file.
        OSError: if it cannot be read.
        ValueError: for an unknown protocol.
        ImportError: for a protocol whose package is missing.
    """
    import fsspec

    with fsspec.open(address, "rb") as stream:
        return _limited(stream.read(max_bytes + 1), address, max_bytes)


def _limited(content: bytes, name: str, max_bytes: int) -> bytes:
    if len(content) > max_bytes:
        raise InputError(f"{name!r} has more than the limit of {max_bytes:,} bytes")
    return content


def is_within(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, lies in a folder or below it."""
    return path.resolve().is_relative_to(folder.resolve())


def same_store(address: str, other: str) -> bool:
    """Whether two addresses are of one store: the same protocol and host or bucket."""
    first, second = urlsplit(address), urlsplit(other)
    return (first.scheme, first.netloc) == (second.scheme, second.netloc)
