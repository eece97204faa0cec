"""The commands that change or copy a library: remove, restore, index, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from steerclear.cli.options import DEFAULT_LIBRARY, LibraryOption
from steerclear.cli.terminal import echo, one_line_errors
from steerclear.errors import InputError
from steerclear.library.store import Library


def remove(
    ids: Annotated[list[str], typer.Argument(metavar="ID...")], library: LibraryOption = DEFAULT_LIBRARY
) -> None:
    """Remove items: all of them, or none when an id is unknown. `restore` brings them back.

    \b
    steerclear library remove fox owl -l protected
    """
    with one_line_errors():
        opened = Library.open(library)
        version_before = opened.version
        count = opened.remove(ids)
    echo(f"{count} removed; undo with: steerclear library restore {version_before} --library {library}")


def restore(version: int, library: LibraryOption = DEFAULT_LIBRARY) -> None:
    """Bring the items of an earlier version back, as a new version.

    \b
    steerclear library restore 3 -l protected
    """
    with one_line_errors():
        opened = Library.open(library)
        opened.restore(version)
        count = len(opened)
    echo(f"version {version} restored; the library holds {count}")


def index(library: LibraryOption = DEFAULT_LIBRARY) -> None:
    """Build the approximate index for searching a very large library.

    Build it again after adding many pictures.

    \b
    steerclear library index -l protected
    """
    with one_line_errors():
        opened = Library.open(library)
        encoder_names = opened.build_index()
        count = len(opened)
    echo(f"{count} items indexed for {' and '.join(encoder_names)}")


def export(
    file: Annotated[Path, typer.Argument(help="A .parquet file.")], library: LibraryOption = DEFAULT_LIBRARY
) -> None:
    """Write everything, vectors and thumbnails included, to a Parquet file that `add` can read again.

    \b
    steerclear library export protected.parquet -l protected
    """
    with one_line_errors():
        rows = Library.open(library).export()
        import pyarrow.parquet as pq

        try:
            pq.write_table(rows, file)
        except OSError as error:
            raise InputError(f"cannot write {str(file)!r}: {error.strerror or error}") from error
    echo(f"{len(rows)} items written to {file}")
