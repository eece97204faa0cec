"""Keeping a library small: small files are merged, and versions that nobody will restore are dropped."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.errors import LibraryError
from steerclear.library.failures import lance_errors, retry_conflicts
from steerclear.library.table import LATENTS, NOTES, local_folder, open_if_there, write_lock

if TYPE_CHECKING:
    from steerclear.library.reading import LibraryReader
    from steerclear.library.schema import Version

MANY_FRAGMENTS = 64  # files of rows, from which on an addition merges them
KEPT_VERSIONS = 20
PROTECTED_DAYS = 30  # in which the state before a removal outlives additions
FOREVER = timedelta(days=36500)
# Lance drops by age, counted from a moment after ours; versions of this last second stay as well
MARGIN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did.

    Attributes:
        versions_before: how many versions there were.
        versions: how many there are.
        bytes_before: size of a local library's folder; None for an address.
        bytes: its size now.
    """

    versions_before: int
    versions: int
    bytes_before: int | None
    bytes: int | None


def compact(library: LibraryReader, *, versions: int, days: float) -> Compacted:
    """See `Library.compact`."""
    if versions < 1 or days < 0:
        raise LibraryError(
            f"cannot keep {versions} versions and {days:g} days; keep at least 1 version and 0 days"
        )
    folder = local_folder(library.uri)
    with write_lock(library.uri), lance_errors(library.uri):
        states, size = library.log(), folder_size(folder)
        before = len(states)
        merge_files(library._table)
        if versions == 1:  # what was merged is the same state as before
            states = library.log()
        young = [state for state in states if state.committed > datetime.now(UTC) - timedelta(days=days)]
        oldest = min((*young, *states[-versions:]), key=lambda state: state.version)
        # in a locked folder nobody else writes, so that what no version refers to is of killed processes
        only = oldest.version == library.version
        drop_versions(library._table, None if only else oldest.committed, unfinished=folder is not None)
        for name in (NOTES, LATENTS):  # nothing brings their versions back
            if (table := open_if_there(library.uri, name)) is not None:
                merge_files(table)
                drop_versions(table, None, unfinished=folder is not None)
        return Compacted(before, versions=len(library.log()), bytes_before=size, bytes=folder_size(folder))


def tidy(library: LibraryReader, since: int) -> None:
    """See `Library.tidy`."""
    with write_lock(library.uri), lance_errors(library.uri):
        if library._table.stats()["fragment_stats"]["num_fragments"] <= MANY_FRAGMENTS:
            return
        merge_files(library._table)
        drop_versions(library._table, oldest_kept(library.log(), since).committed)


def tidy_table(table: Any) -> None:
    """Merges many files of a table whose versions nothing brings back, and drops these."""
    if table.stats()["fragment_stats"]["num_fragments"] > MANY_FRAGMENTS:
        merge_files(table)
        drop_versions(table, None)


def oldest_kept(states: list[Version], since: int) -> Version:
    """The oldest version that has to stay after an addition to version `since`."""
    first = max(0, sum(state.version <= since for state in states) - KEPT_VERSIONS)
    recent = datetime.now(UTC) - timedelta(days=PROTECTED_DAYS)
    for i, (state, following) in enumerate(pairwise(states)):
        if following.items < state.items and following.committed > recent:
            return states[min(i, first)]
    return states[first]


def merge_files(table: Any) -> None:
    """Merges small files of rows, and adds new rows to the indexes; keeps all versions."""
    retry_conflicts(lambda: table.optimize(cleanup_older_than=FOREVER))


def drop_versions(table: Any, before: datetime | None, *, unfinished: bool = False) -> None:
    """Drops versions, with the files that no later one needs.

    Args:
        table: a LanceDB table.
        before: versions committed before this moment are dropped; None for all but the newest.
        unfinished: also drop files that no version refers to, whatever their age: those of killed processes,
            and those of processes that are about to commit.
    """
    age = timedelta(0) if before is None else datetime.now(UTC) - before + MARGIN
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an age of 0; reads begin anew, see `read_again`
        retry_conflicts(lambda: table.optimize(cleanup_older_than=age, delete_unverified=unfinished))


def folder_size(folder: Path | None) -> int | None:
    """Bytes of all files in a folder; None for none."""
    if folder is None:
        return None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
