"""The protected library, one LanceDB folder: opened, made and changed, with every change as a version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.errors import InputError, LibraryError
from steerclear.library import approximate, compaction, notes, snapshot
from steerclear.library.compaction import Compacted
from steerclear.library.creation import check_free, check_is_there, create_items
from steerclear.library.failures import ATTEMPTS, is_conflict, lance_errors, pause, retry_conflicts
from steerclear.library.purge import Purge, Purged, purge, purges
from steerclear.library.reading import Keys, LibraryReader
from steerclear.library.rows import to_arrow
from steerclear.library.schema import (
    POLICIES,
    TURN,
    EncoderSpec,
    Entry,
    Inserted,
    Item,
    arrow_schema,
    free_id,
    read_specs,
)
from steerclear.library.table import ITEMS, connect, holds_rows, local_folder, quoted, write_lock

if TYPE_CHECKING:
    import pyarrow as pa

    from steerclear.encoders.base import Encoder

CHANGEABLE = ("owner", "licence", "note", "caption", "tags", "policy")  # columns of an item


class Library(LibraryReader):
    """The protected pictures, their embeddings and the notes that belong to them.

    Get one with `open`, `create` or `open_or_create`. Every read shows what all processes have committed so
    far. Several processes may write to a local library; reading works where writing is not permitted. All
    methods raise LibraryError if the library is damaged or out of reach.

    Attributes:
        uri: the folder or object store address.
        encoders: the encoders that it was built with.
    """

    @classmethod
    def open(cls, uri: str | Path) -> Library:
        """Opens the library at a folder or object store address.

        Raises:
            LibraryError: if there is none, or steerclear did not make it.
        """
        uri = str(uri)
        check_is_there(uri)
        if (saved := snapshot.read(uri)) is not None:
            return cls(uri, read_specs(saved.rows.schema, uri))
        with lance_errors(uri):
            table = connect(uri).open_table(ITEMS)
            return cls(uri, read_specs(table.schema, uri), table)

    @classmethod
    def create(cls, uri: str | Path, encoders: Sequence[Encoder]) -> Library:
        """Makes an empty library for some encoders.

        Args:
            uri: a folder that is empty or does not exist yet, or an object store address.
            encoders: what every picture will be embedded with.

        Raises:
            LibraryError: if there is a library already, or a local folder that holds anything else.
        """
        planned = cls.plan(uri, encoders)
        create_items(planned.uri, planned._schema().empty_table())
        return cls.open(planned.uri)

    @classmethod
    def plan(cls, uri: str | Path, encoders: Sequence[Encoder]) -> Library:
        """A library that is made when the first pictures are inserted, in the same commit as they.

        So what fails before then leaves nothing behind. Until then it reads as an empty library.

        Args:
            uri: a folder that is empty or does not exist yet, or an object store address.
            encoders: what every picture will be embedded with.

        Raises:
            LibraryError: if there is a library in that folder already, or anything else.
        """
        specs = tuple(EncoderSpec.of(encoder) for encoder in encoders)
        arrow_schema(specs)
        check_free(str(uri))
        return cls(str(uri), specs, planned=True)

    @classmethod
    def open_or_create(cls, uri: str | Path, encoders: Sequence[Encoder]) -> Library:
        """Opens the library at a folder or address, or makes it if there is none.

        Raises:
            LibraryError: if it was built with other encoders, or can neither be opened nor made.
        """
        return cls._open_or(cls.create, str(uri), encoders)

    @classmethod
    def open_or_plan(cls, uri: str | Path, encoders: Sequence[Encoder]) -> Library:
        """Opens the library at a folder or address, or plans it if there is none; see `plan`.

        Raises:
            LibraryError: if it was built with other encoders, or can neither be opened nor made.
        """
        return cls._open_or(cls.plan, str(uri), encoders)

    @classmethod
    def _open_or(
        cls, make: Callable[[str, Sequence[Encoder]], Library], uri: str, encoders: Sequence[Encoder]
    ) -> Library:
        try:
            library = cls.open(uri)
        except LibraryError as first_error:
            try:
                if local_folder(uri) is None and "no library" not in str(first_error):
                    raise first_error  # of an address only the error tells whether there is one
                library = make(uri, encoders)
            except LibraryError as create_error:
                try:
                    library = cls.open(uri)  # another process was faster
                except LibraryError as open_error:
                    raise (open_error if holds_rows(uri) else create_error) from None
        for encoder in encoders:
            library.check_encoder(encoder)
        return library

    def _schema(self) -> pa.Schema:
        """The columns of a library that is to be made: at an address also the one for taking turns."""
        return arrow_schema(self.encoders, turns=local_folder(self.uri) is None)

    def build_index(self) -> list[str]:
        """Makes or renews the approximate index of each encoder, and returns the encoders' names.

        Rows that are added later are found as well, by comparing each of them: renew the index when they have
        become many.

        Raises:
            LibraryError: if the library is too small for an index.
        """
        if len(self) < approximate.LEAST_ROWS:
            raise LibraryError(
                f"the library at {self.uri!r} holds {len(self)} items; an index needs at least "
                f"{approximate.LEAST_ROWS}: below that comparing everything is faster"
            )
        from lancedb.index import BTree

        with write_lock(self.uri), lance_errors(self.uri):
            for spec in self.encoders:
                approximate.build(self._table, spec.column)
            # for thumbnails that are read one by one
            self._table.create_index("id", config=BTree(), replace=True)
        return [spec.name for spec in self.encoders]

    def insert(self, entries: Sequence[Entry]) -> Inserted:
        """Adds pictures in one commit: afterwards all of them are safe on disk, or, after an error, none.

        A picture that the library holds already is skipped; one whose wished id belongs to another picture is
        refused. That holds for pictures that others add at the same time as well. In a folder writers wait
        for a lock. At an address each addition takes the next number as its turn, in the same commit as its
        rows. Lance refuses the second of two commits with one number, whose writer then looks again at what
        there is.

        Raises:
            LibraryError: if a vector is missing or damaged, or the library cannot be written to.
        """
        if self.planned:
            return self._insert_first(entries)
        with write_lock(self.uri), lance_errors(self.uri):
            if TURN in self._table.schema.names:
                return self._insert_in_turn(entries)
            if local_folder(self.uri) is None:
                raise LibraryError(
                    f"the library at {self.uri!r} has no column for taking turns, without which two machines "
                    "could add one picture twice; run `steerclear library migrate --alone --library "
                    f"{self.uri}` while nobody else writes to it"
                )
            before = self._keys()
            keys = before._replace(ids=set(before.ids), hashes=set(before.hashes))
            new_entries, result = _new_entries(entries, keys)
            if new_entries:
                rows = to_arrow(new_entries, self.encoders, self._table.schema)
                retry_conflicts(lambda: self._table.add(rows))
                self._last_keys = keys._replace(version=before.version + 1)
        return result

    def _insert_first(self, entries: Sequence[Entry]) -> Inserted:
        """Makes the planned library with these pictures in it."""
        new_entries, result = _new_entries(entries, Keys(0, set(), set()))
        if not new_entries:
            return result
        try:
            create_items(self.uri, to_arrow(new_entries, self.encoders, self._schema(), turn=1))
        except LibraryError as error:
            try:
                other = Library.open(self.uri)  # another process was faster
            except LibraryError:
                raise error from None
            if set(other.encoders) != set(self.encoders):
                raise
            self.planned = False
            return self.insert(entries)
        self.planned = False
        return result

    def _insert_in_turn(self, entries: Sequence[Entry]) -> Inserted:
        """Adds pictures unless another writer takes the same turn; then looks again at what there is."""
        for attempt in range(ATTEMPTS):
            before = self._keys()
            keys = before._replace(ids=set(before.ids), hashes=set(before.hashes), turn=before.turn + 1)
            new_entries, result = _new_entries(entries, keys)
            if not new_entries:
                return result
            rows = to_arrow(new_entries, specs=self.encoders, schema=self._table.schema, turn=keys.turn)
            merge = self._table.merge_insert(TURN).when_not_matched_insert_all()
            try:
                merged = merge.execute(rows)
            except (OSError, RuntimeError, ValueError) as error:
                if not is_conflict(error):
                    raise
            else:
                if merged.num_inserted_rows:
                    # the other turn's rows may be removed again by now, and others be there
                    if merged.num_attempts > 1 and self._withdrawn(result.added, keys.turn):
                        continue
                    if merged.version == before.version + 1:
                        self._last_keys = keys._replace(version=merged.version)
                    return result
            pause(attempt)
        raise LibraryError(
            f"others kept writing to the library at {self.uri!r}, and nothing was added; run it again"
        )

    def _withdrawn(self, ids: Sequence[str], turn: int) -> bool:
        """Takes the additions of a turn back if a picture or an id is there twice; returns whether it did."""
        rows = self._read(("id", "sha256"))
        if all(
            len(set(values)) == len(rows) for values in (rows["id"].to_pylist(), rows["sha256"].to_pylist())
        ):
            return False
        retry_conflicts(lambda: self._table.delete(f"{TURN} = {turn} AND id IN ({quoted(list(ids))})"))
        return True

    def remove(self, ids: Sequence[str]) -> int:
        """Removes items in one commit and returns how many.

        Raises:
            LibraryError: for an unknown id; then nothing is removed.
        """
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return 0
        with write_lock(self.uri), lance_errors(self.uri):
            existing = self._keys().ids
            unknown = [item_id for item_id in wanted if item_id not in existing]
            if unknown:
                names = ", ".join(map(repr, unknown[:10])) + (" …" if len(unknown) > 10 else "")
                raise LibraryError(f"no item {names} in the library at {self.uri!r}; nothing was removed")
            retry_conflicts(lambda: self._table.delete(f"id IN ({quoted(wanted)})"))
        return len(wanted)

    def change(self, item_id: str, **columns: Any) -> Item:
        """Changes what is known of an item, in one commit, and returns the item.

        Args:
            item_id: the item.
            **columns: any of CHANGEABLE, and their new values.

        Raises:
            InputError: for another column, or a policy that there is not.
            LibraryError: for an unknown id.
        """
        for column in columns:
            if column not in CHANGEABLE:
                raise InputError(f"{column} of an item cannot be changed; {', '.join(CHANGEABLE)} can")
        if (policy := columns.get("policy", POLICIES[0])) not in POLICIES:
            raise InputError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
        with write_lock(self.uri), lance_errors(self.uri):
            self.get(item_id)  # raises for an unknown one
            if columns:
                values = {name: list(v) if name == "tags" else v for name, v in columns.items()}
                where = f"id IN ({quoted([item_id])})"
                retry_conflicts(lambda: self._table.update(where=where, values=values))
            return self.get(item_id)

    def restore(self, version: int) -> None:
        """Makes the items of an earlier version the newest ones, as a new version: this too can be undone.

        Raises:
            LibraryError: if there is no such version.
        """
        with write_lock(self.uri), lance_errors(self.uri):
            versions = [state.version for state in self.log()]
            if version not in versions:
                raise LibraryError(
                    f"no version {version} in {self.uri!r}; there are {versions[0]} to {versions[-1]}"
                )
            retry_conflicts(lambda: self._table.restore(version))

    def compact(self, *, versions: int = compaction.KEPT_VERSIONS, days: float = 0) -> Compacted:
        """Merges the small files of many commits, and drops old versions, which cannot be restored any more.

        Args:
            versions: how many of the newest states stay, at least 1; the compacted one is the newest.
            days: versions younger than this stay as well.

        Returns:
            What it did.

        Raises:
            LibraryError: if the library cannot be written to, or the numbers are out of range.
        """
        return compaction.compact(self, versions=versions, days=days)

    def tidy(self, since: int) -> None:
        """After an addition: if there are many small files, merges them and drops the oldest versions.

        The states before this addition, KEPT_VERSIONS of them, can still be restored, and so can each state
        before a removal of the last PROTECTED_DAYS days. So a library grows with what is in it, and not with
        the number of additions.

        Args:
            since: the version before the addition.
        """
        compaction.tidy(self, since)

    def purge(self, ids: Sequence[str], *, why: str, who: str = "", alone: bool = False) -> Purged:
        """Removes items from every version, so that none of their bytes is left; the history ends here.

        Items that were removed before, and are only in older versions, can be purged as well. All older
        versions go: nothing of before can be restored. What the library says afterwards, in `purges`, is
        when, who, why and how many, and not what.

        Args:
            ids: the items.
            why: the reason, for the log.
            who: who does it; by default the name of the system's user.
            alone: for an address: nobody else writes to it now; what others add meanwhile would be lost.

        Returns:
            What was done and searched.

        Raises:
            LibraryError: for an id that is in no version (then nothing is purged), or if any of the items'
                bytes is still in the folder afterwards.
        """
        return purge(self, ids, why=why, who=who, alone=alone)

    def purges(self) -> list[Purge]:
        """Returns what was ever purged: when, by whom, why and how many, oldest first."""
        return purges(self.uri)

    def write_note(self, name: str, document: dict[str, Any]) -> None:
        """Stores a small JSON document under a name, in the place of an older one, in one commit.

        Notes are no part of the versions: `restore` leaves them as they are.

        Raises:
            ValueError: if the document holds NaN or infinity.
            TypeError: if it holds something that JSON cannot write.
        """
        notes.write(self.uri, name, document)

    def write_snapshot(self) -> Path:
        """Writes a copy of all rows and notes beside a local library; see `snapshot`.

        Raises:
            ValueError: for a library in an object store.
        """
        return snapshot.write(self.uri, self.encoders, self.export)


def _new_entries(entries: Sequence[Entry], keys: Keys) -> tuple[list[Entry], Inserted]:
    """The entries that can be added, with their ids, and what becomes of each. Extends `keys`."""
    new_entries: list[Entry] = []
    result = Inserted()
    for entry in entries:
        item = entry.item
        if item.policy not in POLICIES:
            result.refused.append((item.source, f"policy {item.policy!r} is none of {', '.join(POLICIES)}"))
        elif item.sha256 in keys.hashes:
            result.duplicates.append(item.source)
        elif item.id in keys.ids:
            result.refused.append((item.source, f"id {item.id!r} belongs to another picture"))
        else:
            item_id = item.id or free_id(entry, keys.ids)
            new_entries.append(replace(entry, item=replace(item, id=item_id)))
            result.added.append(item_id)
            keys.ids.add(item_id)
            keys.hashes.add(item.sha256)
    return new_entries, result
