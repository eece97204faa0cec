"""Everything that reads a protected library: its items, vectors, pictures and notes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

from steerclear.errors import LibraryError
from steerclear.library import approximate, notes, snapshot
from steerclear.library.approximate import LanceIndex
from steerclear.library.failures import lance_errors, read_again
from steerclear.library.pictures import IN_MEMORY, LazyThumbnails
from steerclear.library.rows import items_from, thumbnails_from, vectors_from
from steerclear.library.schema import ITEM_COLUMNS, TURN, EncoderSpec, Item, Policy, Version, arrow_schema
from steerclear.library.search import Index
from steerclear.library.table import ITEMS, connect, quoted

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from torch import Tensor

    from steerclear.encoders.base import Encoder

EXACT_UP_TO = 1_000_000  # items whose vectors are compared in memory; see docs/benchmarks/scale.md


class Keys(NamedTuple):
    """The ids and file hashes of all items at a version, and the last turn of a library that counts them."""

    version: int
    ids: set[str]
    hashes: set[str]
    turn: int = 0


class LibraryReader:
    """What can be read of a library without changing it.

    Every read shows what all processes have committed so far. All methods raise LibraryError if the library
    is damaged or out of reach.

    Attributes:
        uri: the folder or object store address.
        encoders: the encoders that it was built with.
        planned: whether it is still to be made, with the first items; until then it is empty.
    """

    def __init__(
        self, uri: str, specs: tuple[EncoderSpec, ...], table: Any = None, *, planned: bool = False
    ) -> None:
        self.uri, self.encoders = uri, specs
        self.planned = planned
        self._opened = table
        self._last_keys: Keys | None = None

    def __len__(self) -> int:
        if self.planned:
            return 0
        if (saved := snapshot.read(self.uri)) is not None:
            return len(saved.rows)
        with lance_errors(self.uri):
            return int(self._table.count_rows())

    def check_holds_items(self) -> None:
        """Checks that there is something to compare with.

        Raises:
            LibraryError: if there is no item: every picture would pass as clear.
        """
        if not len(self):
            raise LibraryError(
                f"the library at {self.uri!r} holds no items, so that every picture would pass as clear; add "
                f"pictures with `steerclear library add PICTURES --library {self.uri}`, or bring removed "
                "ones back with `steerclear library restore`"
            )

    def items(self) -> list[Item]:
        """Returns all items, in the order in which they were added."""
        return items_from(self._read(ITEM_COLUMNS))

    def get(self, item_id: str) -> Item:
        """Returns the item with this id.

        Raises:
            LibraryError: if there is none.
        """
        items = items_from(self._read(ITEM_COLUMNS, ("id", [item_id])))
        if not items:
            raise LibraryError(
                f"no item {item_id!r} in the library at {self.uri!r}; `steerclear library list` shows all"
            )
        return items[0]

    def vectors(self, encoder_name: str) -> tuple[list[str], Tensor]:
        """Returns all ids and their vectors (N, D), float32 of unit length, in the order of the items.

        Raises:
            LibraryError: for an encoder that the library does not know, or a damaged vector.
        """
        spec = self.spec(encoder_name)
        rows = self._read(("id", spec.column))
        return rows["id"].to_pylist(), vectors_from(rows, spec)

    def index(self, encoder_name: str, device: torch.device | str = "cpu") -> Index | LanceIndex:
        """Returns what finds the nearest items: all vectors in memory, or the index of a large library.

        Args:
            encoder_name: one of the library's encoders.
            device: where the vectors are compared. With more than EXACT_UP_TO items and an index on disk it
                is not used.

        Raises:
            LibraryError: for an encoder that the library does not know.
        """
        spec = self.spec(encoder_name)
        if len(self) > EXACT_UP_TO:
            with lance_errors(self.uri):
                if approximate.has_index(self._table, spec.column):
                    return LanceIndex(self.uri, self._table, spec.column)
        return Index.of(*self.vectors(encoder_name), device=device)

    def ids(self, policy: Policy | None = None) -> list[str]:
        """Returns the ids of all items, or of those with a policy."""
        ids: list[str] = self._read(("id",), ("policy", [policy]) if policy else None)["id"].to_pylist()
        return ids

    def pictures(self) -> Mapping[str, Tensor]:
        """Returns id → thumbnail (3, 64, 64) in [0, 1]; above IN_MEMORY items each is read when asked for."""
        if len(self) > IN_MEMORY:
            return LazyThumbnails(self.ids(), lambda item_id: self.thumbnails([item_id])[1][0])
        return dict(zip(*self.thumbnails(), strict=True))

    def thumbnails(self, ids: Sequence[str] | None = None) -> tuple[list[str], Tensor]:
        """Returns the ids and thumbnails (N, 3, 64, 64), float32 in [0, 1], of all items or of some.

        Raises:
            LibraryError: if a thumbnail is damaged.
        """
        rows = self._read(("id", "thumbnail"), None if ids is None else ("id", ids))
        return rows["id"].to_pylist(), thumbnails_from(rows, self.uri)

    def thumbnail_file(self, item_id: str) -> bytes:
        """Returns an item's thumbnail as a PNG.

        Raises:
            LibraryError: if there is no such item.
        """
        rows: list[bytes] = self._read(("thumbnail",), ("id", [item_id]))["thumbnail"].to_pylist()
        if not rows:
            self.get(item_id)  # says that there is none
        return rows[0]

    def spec(self, encoder_name: str) -> EncoderSpec:
        """Returns what the library knows about an encoder.

        Raises:
            LibraryError: if it was built without it.
        """
        for spec in self.encoders:
            if spec.name == encoder_name:
                return spec
        raise LibraryError(
            f"the library at {self.uri!r} was built with encoder {' and '.join(map(str, self.encoders))}, "
            f"not {encoder_name!r}; choose one of its own or add the pictures to a new library"
        )

    def check_encoder(self, encoder: Encoder) -> None:
        """Checks that the library's vectors come from exactly this encoder (same width and fingerprint).

        Raises:
            LibraryError: if they do not.
        """
        expected, actual = self.spec(encoder.name), EncoderSpec.of(encoder)
        if expected != actual:
            raise LibraryError(
                f"the library at {self.uri!r} was built with encoder {expected}, not {actual}: their vectors "
                "cannot be compared; use the old encoder, name the model folder that brings it, or add the "
                "pictures to a new library"
            )

    def fingerprint(self) -> str:
        """Returns a hash of all ids and file hashes: the same for the same content in any order."""
        rows = self._read(("id", "sha256"))
        lines = sorted(f"{row['id']}\t{row['sha256']}\n" for row in rows.to_pylist())
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def hashes(self) -> set[str]:
        """Returns the SHA-256 of every picture's file."""
        return set(self._keys().hashes)

    def hashes_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Returns id → SHA-256 of the picture's file, for the ids that exist."""
        rows = self._read(("id", "sha256"), ("id", ids))
        return dict(zip(rows["id"].to_pylist(), rows["sha256"].to_pylist(), strict=True))

    def captions_of(self, ids: Sequence[str]) -> dict[str, str]:
        """Returns id → caption, for the ids that exist and have one."""
        rows = self._read(("id", "caption"), ("id", ids))
        captions = zip(rows["id"].to_pylist(), rows["caption"].to_pylist(), strict=True)
        return {item_id: caption for item_id, caption in captions if caption}

    def export(self) -> pa.Table:
        """Returns everything as an Arrow table, one row per item, with vectors and thumbnails."""
        return self._read((*ITEM_COLUMNS, "thumbnail", *(spec.column for spec in self.encoders)))

    @property
    def version(self) -> int:
        """Number of the newest committed state; every change of the items raises it. 0 for a planned one."""
        if self.planned:
            return 0
        if (saved := snapshot.read(self.uri)) is not None:
            return saved.version
        with lance_errors(self.uri):
            return int(self._table.version)

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

    def read_note(self, name: str) -> dict[str, Any] | None:
        """Returns the JSON document stored under a name, such as "calibration"; None if there is none."""
        if self.planned:
            return None
        saved = snapshot.read(self.uri)
        return (notes.read_all(self.uri) if saved is None else saved.notes).get(name)

    @property
    def _table(self) -> Any:
        if self._opened is None:
            with lance_errors(self.uri):
                self._opened = connect(self.uri).open_table(ITEMS)
        return self._opened

    def _read(self, columns: Sequence[str], where: tuple[str, Sequence[str]] | None = None) -> pa.Table:
        """Some columns of all rows, or of those whose value in one column is among some values."""
        if (saved := snapshot.read(self.uri)) is not None:
            return saved.select(columns, where)
        if self.planned:
            return arrow_schema(self.encoders).empty_table().select(list(columns))

        def rows() -> pa.Table:
            query = self._table.search().select(list(columns))
            if where is not None:
                column, values = where
                query = query.where(f"{column} IN ({quoted(list(values))})" if values else "false")
            return query.to_arrow()

        with lance_errors(self.uri):
            return read_again(rows)

    def _keys(self) -> Keys:
        """All ids and hashes; read only after a change, else a million additions take quadratic time."""
        version = self.version
        if self._last_keys is None or self._last_keys.version != version:
            turns = not self.planned and TURN in self._table.schema.names
            rows = self._read(("id", "sha256", TURN) if turns else ("id", "sha256"))
            turn = max(rows[TURN].to_pylist(), default=0) if turns else 0
            self._last_keys = Keys(
                version, ids=set(rows["id"].to_pylist()), hashes=set(rows["sha256"].to_pylist()), turn=turn
            )
        return self._last_keys
