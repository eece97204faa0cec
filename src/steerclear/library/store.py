"""The protected library: one LanceDB folder that says which pictures must not be reproduced."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.errors import LibraryError
from steerclear.library import approximate, notes, snapshot
from steerclear.library.approximate import LanceIndex
from steerclear.library.pictures import IN_MEMORY, Pictures
from steerclear.library.schema import (
    ITEM_COLUMNS,
    POLICIES,
    EncoderSpec,
    Entry,
    Inserted,
    Item,
    Policy,
    Version,
    arrow_schema,
    check_unit_length,
    free_id,
    from_arrow,
    read_specs,
    to_arrow,
)
from steerclear.library.search import Index
from steerclear.library.table import (
    ITEMS,
    connect,
    holds_rows,
    lance_errors,
    local_folder,
    make_room,
    quoted,
    retry_conflicts,
    write_lock,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from torch import Tensor

    from steerclear.encoders.base import Encoder

MANY_FRAGMENTS = 64
EXACT_UP_TO = 1_000_000  # items whose vectors are compared in memory; see docs/benchmarks/scale.md
FOREVER = timedelta(days=36500)  # compaction would otherwise drop the versions that `restore` promises


class Library:
    """The protected pictures, their embeddings and the notes that belong to them.

    Get one with `open`, `create` or `open_or_create`. Every read shows what all processes have committed so
    far. Several processes may write to a local library; reading works where writing is not permitted. All
    methods raise LibraryError when the library is damaged or out of reach.
    """

    def __init__(self, uri: str, specs: tuple[EncoderSpec, ...], table: Any = None) -> None:
        self.uri, self.encoders = uri, specs
        self._opened = table
        self._known: tuple[int, set[str], set[str]] | None = None

    @classmethod
    def open(cls, uri: str | Path) -> Library:
        """The library at `uri`, a folder or object store address; LibraryError if missing or foreign."""
        uri = str(uri)
        folder = local_folder(uri)
        if folder is not None and not folder.is_dir():
            what = "a file, not a library" if folder.exists() else "no library"
            raise LibraryError(f"there is {what} at {uri!r}; create one with `steerclear library add`")
        # LanceDB says "not found" both for no table and for a table whose versions are gone
        if folder is not None and not (folder / f"{ITEMS}.lance").exists():
            raise LibraryError(f"the folder {uri!r} is no library; create one with `steerclear library add`")
        if (kept := snapshot.read(uri)) is not None:
            return cls(uri, read_specs(kept.rows.schema, uri))
        with lance_errors(uri):
            table = connect(uri).open_table(ITEMS)
            return cls(uri, read_specs(table.schema, uri), table)

    @classmethod
    def create(cls, uri: str | Path, encoders: Sequence[Encoder]) -> Library:
        """An empty library at `uri` for these encoders.

        Raises LibraryError when there is a library already, or a local folder that holds anything else.
        """
        uri = str(uri)
        schema = arrow_schema([EncoderSpec.of(e) for e in encoders])
        make_room(uri)
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
        """The library at `uri`, made if there is none; LibraryError if it was built with other encoders."""
        try:
            library = cls.open(uri)
        except LibraryError:
            try:
                library = cls.create(uri, encoders)
            except LibraryError as uncreated:
                try:
                    library = cls.open(uri)  # another process was faster
                except LibraryError as unopened:
                    raise (unopened if holds_rows(str(uri)) else uncreated) from None
        for encoder in encoders:
            library.check_encoder(encoder)
        return library

    def __len__(self) -> int:
        if (kept := snapshot.read(self.uri)) is not None:
            return len(kept.rows)
        with lance_errors(self.uri):
            return int(self._table.count_rows())

    def items(self) -> list[Item]:
        """All items, in the order in which they were added."""
        return from_arrow(self._read(ITEM_COLUMNS))

    def get(self, item_id: str) -> Item:
        """The item with this id; LibraryError when there is none."""
        found = from_arrow(self._read(ITEM_COLUMNS, ("id", [item_id])))
        if not found:
            raise LibraryError(
                f"no item {item_id!r} in the library at {self.uri!r}; `steerclear library list` shows all"
            )
        return found[0]

    def vectors(self, encoder_name: str) -> tuple[list[str], Tensor]:
        """ids and (N, D) float32 vectors of unit length; LibraryError for an encoder it does not know."""
        import torch

        spec = self.spec(encoder_name)
        rows = self._read(("id", spec.column))
        flat = rows[spec.column].combine_chunks().flatten()
        vectors = torch.tensor(flat.to_numpy(zero_copy_only=False), dtype=torch.float32).reshape(
            len(rows), spec.dim
        )
        check_unit_length(vectors, spec.name)  # a damaged vector would silently protect nothing
        return rows["id"].to_pylist(), vectors

    def index(self, encoder_name: str, device: torch.device | str = "cpu") -> Index | LanceIndex:
        """What answers for the nearest items: everything in the memory of `device`, or beyond EXACT_UP_TO items the index, if
        built."""
        spec = self.spec(encoder_name)
        if len(self) > EXACT_UP_TO:
            with lance_errors(self.uri):
                if approximate.has_index(self._table, spec.column):
                    return LanceIndex(self.uri, self._table, spec.column)
        return Index.of(self, encoder_name, device)

    def build_index(self) -> list[str]:
        """Make or renew the approximate index of each encoder; their names. LibraryError for a library that is too small.

        Rows that are added later are found as well, by comparing each of them: renew it when they have become many.
        """
        if len(self) < approximate.LEAST_ROWS:
            raise LibraryError(
                f"the library at {self.uri!r} holds {len(self)}; an index is made from {approximate.LEAST_ROWS} on, below "
                "that comparing everything is faster"
            )
        from lancedb.index import BTree

        with write_lock(self.uri), lance_errors(self.uri):
            for spec in self.encoders:
                approximate.build(self._table, spec.column)
            self._table.create_index(
                "id", config=BTree(), replace=True
            )  # for thumbnails that are read one by one
        return [spec.name for spec in self.encoders]

    def ids(self, policy: Policy | None = None) -> list[str]:
        """The ids of all items, or of those with a policy."""
        rows = self._read(("id",), ("policy", [policy]) if policy else None)
        found: list[str] = rows["id"].to_pylist()
        return found

    def pictures(self) -> Mapping[str, Tensor]:
        """id → (3, 64, 64) thumbnail in [0, 1]; of a library of more than IN_MEMORY items read when asked for."""
        return Pictures(self) if len(self) > IN_MEMORY else dict(zip(*self.thumbnails(), strict=True))

    def thumbnails(self, ids: Sequence[str] | None = None) -> tuple[list[str], Tensor]:
        """ids and (N, 3, 64, 64) float32 pictures in [0, 1], of all items or of these."""
        import torch

        from steerclear.errors import ImageError
        from steerclear.library.images import THUMBNAIL, read_image, to_tensor

        rows = self._read(("id", "thumbnail"), None if ids is None else ("id", ids))
        found = rows["id"].to_pylist()
        pictures = torch.empty(len(found), 3, THUMBNAIL, THUMBNAIL)
        for row, (item_id, png) in enumerate(zip(found, rows["thumbnail"].to_pylist(), strict=True)):
            try:
                pictures[row] = to_tensor(read_image(png), THUMBNAIL)
            except ImageError as error:
                raise LibraryError(
                    f"the thumbnail of {item_id!r} in {self.uri!r} is damaged: {error}"
                ) from error
        return found, pictures

    def spec(self, encoder_name: str) -> EncoderSpec:
        """What the library knows about an encoder; LibraryError when it was built without it."""
        for spec in self.encoders:
            if spec.name == encoder_name:
                return spec
        raise LibraryError(
            f"the library at {self.uri!r} was built with encoder {' and '.join(map(str, self.encoders))}, "
            f"not {encoder_name!r}; choose one of its own or add the pictures to a new library"
        )

    def check_encoder(self, encoder: Encoder) -> None:
        """LibraryError unless the vectors come from exactly this encoder (same width and fingerprint)."""
        built, given = self.spec(encoder.name), EncoderSpec.of(encoder)
        if built != given:
            raise LibraryError(
                f"the library at {self.uri!r} was built with encoder {built}, not {given}: their vectors "
                "cannot be compared; use the old encoder, name the model folder that brings it, or add the pictures to a new library"
            )

    def fingerprint(self) -> str:
        """Hash of all ids and picture hashes, the same for the same content whatever its order or history."""
        rows = self._read(("id", "sha256"))
        lines = sorted(f"{row['id']}\t{row['sha256']}\n" for row in rows.to_pylist())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def hashes(self) -> set[str]:
        """sha256 of every picture in the library."""
        return set(self._known_now()[2])

    def hashes_of(self, ids: Sequence[str]) -> dict[str, str]:
        """id → sha256 of the picture's file, of those that there are."""
        rows = self._read(("id", "sha256"), ("id", ids))
        return dict(zip(rows["id"].to_pylist(), rows["sha256"].to_pylist(), strict=True))

    def captions_of(self, ids: Sequence[str]) -> dict[str, str]:
        """id → caption, of those items that there are and that have one."""
        rows = self._read(("id", "caption"), ("id", ids))
        found = zip(rows["id"].to_pylist(), rows["caption"].to_pylist(), strict=True)
        return {item: caption for item, caption in found if caption}

    def export(self) -> pa.Table:
        """AllPictures, one row an item, vectors and thumbnails included, as an Arrow table."""
        return self._read((*ITEM_COLUMNS, "thumbnail", *(spec.column for spec in self.encoders)))

    def insert(self, entries: Sequence[Entry]) -> Inserted:
        """Add pictures in one commit: afterwards all of them are safe on disk, or after an error none.

        A picture whose sha256 is there already is skipped, one whose wished id belongs to another is refused.
        """
        out = Inserted()
        with write_lock(self.uri), lance_errors(self.uri):
            version, ids, hashes = self._known_now()
            ids, hashes = set(ids), set(hashes)
            fresh: list[Entry] = []
            for entry in entries:
                item = entry.item
                if item.policy not in POLICIES:
                    out.refused.append(
                        (item.source, f"policy {item.policy!r} is none of {', '.join(POLICIES)}")
                    )
                elif item.sha256 in hashes:
                    out.duplicates.append(item.source)
                elif item.id in ids:
                    out.refused.append((item.source, f"id {item.id!r} belongs to another picture"))
                else:
                    chosen = item.id or free_id(item, ids)
                    fresh.append(replace(entry, item=replace(item, id=chosen)))
                    out.added.append(chosen)
                    ids.add(chosen)
                    hashes.add(item.sha256)
            if fresh:
                rows = to_arrow(fresh, self.encoders, self._table.schema)
                retry_conflicts(lambda: self._table.add(rows))
                # anything but the next version means that another writer of an object store came between
                after = self.version
                self._known = (after, ids, hashes) if after == version + 1 else None
        return out

    def remove(self, ids: Sequence[str]) -> int:
        """Take these items out in one commit and return how many.

        An unknown id raises LibraryError, and then nothing is removed.
        """
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return 0
        with write_lock(self.uri), lance_errors(self.uri):
            unknown = [i for i in wanted if i not in self._known_now()[1]]
            if unknown:
                names = ", ".join(map(repr, unknown[:10])) + (" …" if len(unknown) > 10 else "")
                raise LibraryError(f"no item {names} in the library at {self.uri!r}; nothing was removed")
            retry_conflicts(lambda: self._table.delete(f"id IN ({quoted(wanted)})"))
        return len(wanted)

    @property
    def version(self) -> int:
        """Number of the newest committed state; every change raises it."""
        with lance_errors(self.uri):
            return int(self._table.version)

    def log(self) -> list[Version]:
        """All states that `restore` can bring back, oldest first."""
        with lance_errors(self.uri):
            versions = self._table.list_versions()
        return [
            Version(
                int(v["version"]), v["timestamp"].astimezone(UTC), int(v["metadata"].get("total_rows", -1))
            )
            for v in versions
        ]

    def restore(self, version: int) -> None:
        """Make the items of an earlier version the newest ones, as a new version: this too can be undone."""
        with write_lock(self.uri), lance_errors(self.uri):
            known = [v.version for v in self.log()]
            if version not in known:
                raise LibraryError(
                    f"no version {version} in {self.uri!r}; there are {known[0]} to {known[-1]}"
                )
            retry_conflicts(lambda: self._table.restore(version))

    def compact(self) -> None:
        """Merge the many small files of many small commits, if there are many; keeps all versions."""
        with write_lock(self.uri), lance_errors(self.uri):
            if self._table.stats()["fragment_stats"]["num_fragments"] > MANY_FRAGMENTS:
                retry_conflicts(lambda: self._table.optimize(cleanup_older_than=FOREVER))

    def read_note(self, name: str) -> dict[str, Any] | None:
        """The JSON document stored under `name`, such as "calibration"; None when there is none."""
        kept = snapshot.read(self.uri)
        return (notes.read_all(self.uri) if kept is None else kept.notes).get(name)

    def write_note(self, name: str, document: dict[str, Any]) -> None:
        """Store a small JSON document under `name`, replacing the old one in one commit.

        Notes are no part of the versions: `restore` leaves them as they are.
        """
        notes.write(self.uri, name, document)

    @property
    def _table(self) -> Any:
        if self._opened is None:
            with lance_errors(self.uri):
                self._opened = connect(self.uri).open_table(ITEMS)
        return self._opened

    def _read(self, columns: Sequence[str], among: tuple[str, Sequence[str]] | None = None) -> pa.Table:
        """Columns of all rows, or of those whose value in a column is among some."""
        if (kept := snapshot.read(self.uri)) is not None:
            return kept.select(columns, among)
        with lance_errors(self.uri):
            query = self._table.search().select(list(columns))
            if among is not None:
                query = query.where(f"{among[0]} IN ({quoted(list(among[1]))})" if among[1] else "false")
            return query.to_arrow()

    def _known_now(self) -> tuple[int, set[str], set[str]]:
        # reading all ids for every commit would make a million additions quadratic
        version = self.version
        if self._known is None or self._known[0] != version:
            rows = self._read(("id", "sha256"))
            self._known = (version, set(rows["id"].to_pylist()), set(rows["sha256"].to_pylist()))
        return self._known
