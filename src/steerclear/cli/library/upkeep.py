"""The commands that keep a library small, and what is no longer wanted out of it: compact, purge, migrate."""

from __future__ import annotations

from typing import Annotated

import typer

from steerclear.cli.options import DEFAULT_LIBRARY, LibraryOption
from steerclear.cli.terminal import echo, one_line_errors
from steerclear.library.compaction import KEPT_VERSIONS
from steerclear.library.store import Library

AloneOption = Annotated[
    bool,
    typer.Option(
        "--alone",
        help="At an address: nobody else writes to it now. What others add meanwhile would be lost.",
    ),
]


def compact(
    library: LibraryOption = DEFAULT_LIBRARY,
    versions: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="The newest N states stay; the compacted one is the newest."),
    ] = KEPT_VERSIONS,
    days: Annotated[
        float, typer.Option(min=0, metavar="D", help="Versions younger than D days stay as well.")
    ] = 0,
) -> None:
    """Merge the small files of many changes, and drop old versions; these cannot be restored any more.

    A guard that follows the library goes on. What was removed may still be in the files: see `purge`.

    \b
    steerclear library compact -l protected
    steerclear library compact -l protected --versions 1 --days 30
    """
    with one_line_errors("stopped; the library is as it was, or compacted in part"):
        done = Library.open(library).compact(versions=versions, days=days)
    size = f", {done.bytes_before:,} bytes are {done.bytes:,}" if done.bytes is not None else ""
    echo(f"{done.versions_before} versions are {done.versions}{size}")


def purge(
    ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for `library log`.")],
    library: LibraryOption = DEFAULT_LIBRARY,
    who: Annotated[
        str, typer.Option("--who", metavar="NAME", help="For `library log`; by default the system's user.")
    ] = "",
    alone: AloneOption = False,
) -> None:
    """Take items out of every version, so that none of their bytes is left. The history of the library ends.

    Items that were removed before can be purged as well. Every older version goes, and nothing can be
    restored. The folder is then searched for what was stored of the items. `library log` says when, who, why
    and how many, and not what.

    \b
    steerclear library purge fox owl -l protected --why "licence ended"
    """
    with one_line_errors("stopped; run the same command again, it goes on"):
        done = Library.open(library).purge(ids, why=why, who=who, alone=alone)
    searched = (
        "files at an address were not searched"
        if done.searched_files is None
        else f"none of their bytes is in the {done.searched_files} files of the folder"
    )
    echo(f"{done.items} purged, {searched}; only version {done.version} is left")


def migrate(library: LibraryOption = DEFAULT_LIBRARY, alone: AloneOption = False) -> None:
    """Bring a library of an older format, or with other columns, to the columns of this steerclear.

    The version before can be restored. Opening a library never changes it.

    \b
    steerclear library migrate -l protected
    """
    from steerclear.library.migrate import migrate as bring

    with one_line_errors("stopped; the library is as it was"):
        migration = bring(library, alone=alone)
    if not migration.done:
        echo("nothing to do")
        return
    for line in migration.done:
        echo(line)
    echo(f"migrated; undo with: steerclear library restore {migration.version_before} --library {library}")
