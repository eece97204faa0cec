"""Items that are enforced for a share of the seeds alone: for a careful roll-out, or to stop a flood."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from steerclear.embedded import is_embedded_library
from steerclear.errors import InputError, LibraryError
from steerclear.library import notes
from steerclear.library.failures import lance_errors
from steerclear.library.reading import EXACT_UP_TO
from steerclear.library.search import Index
from steerclear.library.store import Library
from steerclear.library.table import NOTES, open_if_there

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

WHOLE = 100.0  # percent
MOST = 100  # items in a roll-out at once: each picture is compared with them apart from the others


@dataclass(frozen=True, slots=True)
class Share:
    """For how many seeds an item is enforced.

    Attributes:
        item: its id.
        percent: of the seeds, from 0 ("observe only") to 100.
        why: in words.
        since: when it was set, in UTC.
    """

    item: str
    percent: float
    why: str
    since: datetime

    def enforced(self, seed: int) -> bool:
        """Returns whether a picture of this seed must not resemble the item; the same on every machine."""
        return drawn(self.item, seed) < self.percent


def drawn(item: str, seed: int) -> float:
    """A number in [0, 100) that item and seed decide, evenly spread."""
    digest = hashlib.sha256(f"{seed}\n{item}".encode()).digest()
    return WHOLE * int.from_bytes(digest[:6]) / 2**48


def set_share(library: Library, item: str, percent: float, why: str) -> Share:
    """Enforces an item for a share of the seeds from now on, in every guard that follows the library.

    It holds for the very file that the item is of now: a picture that later gets the same id is enforced.

    Args:
        library: may be written to.
        item: an id.
        percent: from 0 to 100.
        why: who looks it up later wants to know.

    Raises:
        InputError: for another percentage, or no reason.
        LibraryError: for an unknown item, and if no item would be enforced for all seeds any more.
    """
    if not math.isfinite(percent) or not 0 <= percent <= WHOLE:
        raise InputError(f"the share is {percent} %; give one from 0 to 100")
    if percent < WHOLE and not why.strip():
        raise InputError("an item that is not enforced for all seeds needs a reason; say why")
    if is_embedded_library(library.uri):
        raise LibraryError("the embedded library cannot be changed; copy its pictures to one of your own")
    sha256 = library.get(item).sha256
    if percent < WHOLE:
        others = {share.item for share in shares(library)} | {item}
        if len(others) >= len(library):
            raise LibraryError(
                f"every item of the library at {library.uri!r} would be in a roll-out; leave one enforced"
            )
        if len(others) > MOST:
            raise LibraryError(f"{MOST} items are in a roll-out already; enforce some of them first")
    since = datetime.now(UTC)
    document = {"percent": percent, "why": why, "since": since.isoformat(), "sha256": sha256}
    library.write_note(notes.SHARE_OF + item, document)
    return Share(item, percent=float(percent), why=why, since=since)


def shares(library: Library) -> list[Share]:
    """Returns what is enforced for less than all seeds, by id.

    Raises:
        LibraryError: if a note is damaged.
    """
    if is_embedded_library(library.uri):
        return []
    documents = {
        name.removeprefix(notes.SHARE_OF): document
        for name, document in notes.read_all(library.uri).items()
        if name.startswith(notes.SHARE_OF)
    }
    hashes = library.hashes_of(list(documents)) if documents else {}
    return [
        share
        for item, document in sorted(documents.items())
        if document.get("sha256") == hashes.get(item)
        and (share := _share(library.uri, item, document)).percent < WHOLE
    ]


class NotesVersion:
    """A number that every note that is written raises: a look-up, quicker than reading the notes.

    Args:
        uri: the library's.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._table: Any = None

    def read(self) -> int:
        """Returns the number; 0 where no note was ever written.

        Raises:
            LibraryError: if the notes cannot be read any more.
        """
        if is_embedded_library(self._uri):
            return 0
        with lance_errors(self._uri):
            if self._table is None:
                self._table = open_if_there(self._uri, NOTES)
            return 0 if self._table is None else int(self._table.version)


class Selection(Library):
    """A library as if it held some of its items alone. It is for reading.

    Args:
        library: the whole library.
        only: the ids that it holds; None for all.
        without: ids that it does not hold.

    Raises:
        LibraryError: if more items are left than can be compared in memory.
    """

    def __init__(
        self, library: Library, *, only: Collection[str] | None = None, without: Collection[str] = ()
    ) -> None:
        super().__init__(library.uri, library.encoders)
        self._only, self._without = None if only is None else frozenset(only), frozenset(without)

    def __len__(self) -> int:
        return len(self.ids())

    def index(self, encoder_name: str, device: torch.device | str = "cpu") -> Index:
        """Returns the selected items' vectors, in memory."""
        ids, vectors = self.vectors(encoder_name)
        if len(ids) > EXACT_UP_TO:
            raise LibraryError(
                f"the library at {self.uri!r} is searched by an index on disk, beside which no item can be "
                "in a roll-out; enforce all: steerclear library share ID 100"
            )
        return Index.of(ids, vectors, device=device)

    def _read(self, columns: Sequence[str], where: tuple[str, Sequence[str]] | None = None) -> pa.Table:
        import pyarrow as pa

        names = list(columns) if "id" in columns else ["id", *columns]
        rows = super()._read(names, where)
        held = [self._holds(item) for item in rows["id"].to_pylist()]
        return rows.filter(pa.array(held, pa.bool_())).select(list(columns))

    def _holds(self, item: str) -> bool:
        return item not in self._without and (self._only is None or item in self._only)


def _share(uri: str, item: str, document: dict[str, Any]) -> Share:
    try:
        percent = float(document["percent"])
        if not 0 <= percent <= WHOLE:
            raise ValueError(f"{percent} is no percentage")
        return Share(
            item, percent=percent, why=str(document["why"]), since=datetime.fromisoformat(document["since"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise LibraryError(
            f"the note {notes.SHARE_OF + item!r} in the library at {uri!r} is damaged: {error}; set it "
            f"again: steerclear library share {item} 100 --library {uri}"
        ) from error
