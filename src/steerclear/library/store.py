"""The protected library, one LanceDB folder: opened, made and changed, with every change as a version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.errors import LibraryError
from steerclear.library import approximate, notes, snapshot
from steerclear.library.reading import Keys, LibraryReader
from steerclear.library.rows import to_arrow
from steerclear.library.schema import (
    POLICIES,
    EncoderSpec,
    Entry,
    Inserted,
    Version,
    arrow_schema,
    free_id,
    read_specs,
)
from steerclear.library.table import (
    ITEMS,
    connect,
    holds_rows,
    lance_errors,
    local_folder,
    make_folder,
    quoted,
    remove_folder,
    retry_conflicts,
    write_lock,
)

if TYPE_CHECKING:
    from steerclear.encoders.base import Encoder

MANY_FRAGMENTS = 64
FIRST_VERSION = 1  # of a table that was only created
FOREVER = timedelta(days=36500)  # compaction would otherwise drop the versions that `restore` promises


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
        folder = local_folder(uri)
        if folder is not None and not folder.is_dir():
            what = "a file, not a library" if folder.exists() else "no library"
            raise LibraryError(f"there is {what} at {uri!r}; create one with `steerclear library add`")
        # LanceDB says "not found" both for no table and for a table whose versions are gone
        if folder is not None and not (folder / f"{ITEMS}.lance").exists():
            raise LibraryError(f"the folder {uri!r} is no library; create one with `steerclear library add`")
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
        uri = str(uri)
        schema = arrow_schema([EncoderSpec.of(encoder) for encoder in encoders])
        make_folder(uri)
        with write_lock(uri), lance_errors(uri):
            try:
                connect(uri).create_table(ITEMS, schema=schema)
            except ValueError as error:
                if "already exists" not in str(error):
                    raise
                raise LibraryError(f"there is a library at {uri!r} already; open it instead") from error
        return cls.open(uri)

    @classmethod
    def open_or_create(cls, uri: str | Path, encoders: Sequence[Encoder]) -> Library:
        """Opens the library at a folder or address, or makes it if there is none.

        Raises:
            LibraryError: if it was built with other encoders, or can neither be opened nor made.
        """
        try:
            library = cls.open(uri)
        except LibraryError:
            try:
                library = cls.create(uri, encoders)
            except LibraryError as create_error:
                try:
                    library = cls.open(uri)  # another process was faster
                except LibraryError as open_error:
                    raise (open_error if holds_rows(str(uri)) else create_error) from None
        for encoder in encoders:
            library.check_encoder(encoder)
        return library

    def discard_unused(self) -> bool:
        """Deletes the library if nothing was ever added to it or noted in it, and returns whether it did."""
        with write_lock(self.uri), lance_errors(self.uri):
            unused = self.version == FIRST_VERSION and not len(self) and not notes.read_all(self.uri)
            if unused:
                connect(self.uri).drop_table(ITEMS)
        if unused:
            remove_folder(self.uri)
        return unused

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
        refused.

        Raises:
            LibraryError: if a vector is missing or damaged, or the library cannot be written to.
        """
        with write_lock(self.uri), lance_errors(self.uri):
            before = self._keys()
            keys = Keys(before.version, set(before.ids), set(before.hashes))
            new_entries, result = _new_entries(entries, keys)
            if new_entries:
                rows = to_arrow(new_entries, self.encoders, self._table.schema)
                retry_conflicts(lambda: self._table.add(rows))
                # any version but the next one means that another writer of an object store came in between
                after = self.version
                self._last_keys = keys._replace(version=after) if after == before.version + 1 else None
        return result

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

    def log(self) -> list[Version]:
        """Returns all states that `restore` can bring back, oldest first."""
        with lance_errors(self.uri):
            versions = self._table.list_versions()
        return [
            Version(
                version=int(row["version"]),
                committed=row["timestamp"].astimezone(UTC),
                items=int(row["metadata"].get("total_rows", -1)),
            )
            for row in versions
        ]

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

    def compact(self) -> None:
        """Merges the many small files of many small commits, if there are many; keeps all versions."""
        with write_lock(self.uri), lance_errors(self.uri):
            if self._table.stats()["fragment_stats"]["num_fragments"] > MANY_FRAGMENTS:
                retry_conflicts(lambda: self._table.optimize(cleanup_older_than=FOREVER))

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
