"""What a protected library stores: the item, its columns, and which encoders its vectors belong to."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from steerclear.errors import LibraryError

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

    from steerclear.encoders.base import Encoder

Policy = Literal["steer", "withhold"]
POLICIES: tuple[Policy, ...] = ("steer", "withhold")
FORMAT = 1  # raised when an older steerclear could no longer read the columns
METADATA_KEY = b"steerclear"
# counts the additions of a library at an address, so that two writers cannot take the same turn
TURN = "turn"
PRIMARY_KEY = {b"lance-schema:unenforced-primary-key:position": b"1"}  # what Lance looks for conflicts by


@dataclass(frozen=True, slots=True)
class Item:
    """One protected picture as the library knows it, without vectors and thumbnail.

    Attributes:
        id: the item's name, unique in its library.
        source: the path or URI that it came from.
        sha256: of the file's bytes.
        phash: perceptual hash as 16 hex digits, see `images.phash`.
        owner: who holds the rights.
        licence: licence or contract.
        note: anything a reviewer should know.
        caption: what the picture shows, in words.
        tags: words to find it by.
        policy: "steer" replaces a copy by another picture, "withhold" hands out nothing for it.
        added: when it was added, in UTC.
    """

    id: str
    source: str
    sha256: str
    phash: str
    owner: str = ""
    licence: str = ""
    note: str = ""
    caption: str = ""
    tags: tuple[str, ...] = ()
    policy: Policy = "steer"
    added: datetime = field(default_factory=lambda: datetime.now(UTC))

    def to_dict(self) -> dict[str, Any]:
        """Returns a plain dictionary that JSON can write."""
        return asdict(self) | {"tags": list(self.tags), "added": self.added.isoformat()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture on its way into the library.

    Attributes:
        item: its id is the one that the caller wishes; with "" the library chooses one.
        thumbnail: PNG bytes, RGB, 64 × 64.
        vectors: encoder name → (dim,) of unit length, one for every encoder of the library.
        name: its own file name, of which an id is made; by default the last part of its source.
    """

    item: Item
    thumbnail: bytes
    vectors: dict[str, Tensor]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One committed state of a library.

    Attributes:
        version: its number.
        committed: when, in UTC.
        items: how many items it holds.
    """

    version: int
    committed: datetime
    items: int


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of the entries of one insertion.

    Attributes:
        added: the ids of the new items.
        duplicates: sources that are exact copies of a picture in the library.
        refused: (source, reason) of the others.
    """

    added: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder as the library remembers it: enough to notice that another one is being used.

    Attributes:
        name: the encoder's name.
        dim: the width of its embedding.
        fingerprint: changes whenever its weights or its preprocessing do.
    """

    name: str
    dim: int
    fingerprint: str

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderSpec:
        """Returns the description of a loaded encoder."""
        return cls(encoder.name, int(encoder.dim), str(encoder.fingerprint))

    @property
    def column(self) -> str:
        """The column that holds its vectors."""
        return vector_column(self.name)

    def __str__(self) -> str:
        return f"{self.name!r} ({self.dim}-d, fingerprint {self.fingerprint})"


ITEM_COLUMNS = tuple(Item.__dataclass_fields__)


def vector_column(encoder_name: str) -> str:
    """Returns the column for an encoder's vectors; characters that SQL does not allow in it become "_"."""
    return "vector_" + re.sub(r"[^A-Za-z0-9_]", "_", encoder_name)


def arrow_schema(specs: Sequence[EncoderSpec], *, turns: bool = False) -> pa.Schema:
    """Returns the columns of a library with these encoders.

    The encoders are kept in the schema's metadata: metadata and table are then made in one commit, and no
    crash can leave one without the other.

    Args:
        specs: the encoders.
        turns: also the column by which writers take turns where there is no lock, see `Library.insert`.

    Raises:
        LibraryError: if there is no encoder, or two need the same column.
    """
    import pyarrow as pa

    if not specs:
        raise LibraryError("a library needs at least one encoder; pass encoders=[…]")
    if len({spec.column for spec in specs}) != len(specs):
        names = ", ".join(repr(spec.name) for spec in specs)
        raise LibraryError(f"the names of a library's encoders must differ, got {names}")
    text = [(name, pa.string()) for name in ("id", "source", "sha256", "phash")]
    described = [(name, pa.string()) for name in ("owner", "licence", "note", "caption")]
    others = [("tags", pa.list_(pa.string())), ("policy", pa.string()), ("added", pa.timestamp("us", "UTC"))]
    vectors = [(spec.column, pa.list_(pa.float32(), spec.dim)) for spec in specs]
    columns = [*text, *described, *others, ("thumbnail", pa.binary()), *vectors]
    metadata = {"format": FORMAT, "encoders": [asdict(spec) for spec in specs]}
    fields = [pa.field(name, kind, nullable=False) for name, kind in columns]
    if turns:
        fields.append(pa.field(TURN, pa.int64(), nullable=False, metadata=PRIMARY_KEY))
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(metadata).encode()})


def read_specs(schema: pa.Schema, uri: str) -> tuple[EncoderSpec, ...]:
    """Reads which encoders a table was made for, and checks that its columns are those of this format.

    Args:
        schema: the table's schema.
        uri: where the library lies, for error messages.

    Raises:
        LibraryError: if steerclear did not make the table, made it in another format, or has not made some
            of its columns.
    """
    version, specs = read_metadata(schema, uri)
    if version < FORMAT:
        raise LibraryError(
            f"the library at {uri!r} has the old format {version}, this steerclear uses {FORMAT}; it "
            f"was left as it is: run `steerclear library migrate --library {uri}`"
        )
    lacking, foreign = other_columns(schema, specs)
    if lacking or foreign:
        what = [f"lacks {', '.join(lacking)}"] if lacking else []
        what += [f"has {', '.join(foreign)}"] if foreign else []
        raise LibraryError(
            f"the library at {uri!r} has other columns than format {FORMAT}: it {' and '.join(what)}; it was "
            f"left as it is: run `steerclear library migrate --library {uri}`"
        )
    return specs


def read_metadata(schema: pa.Schema, uri: str) -> tuple[int, tuple[EncoderSpec, ...]]:
    """Reads a table's format and encoders, of this format or an older one.

    Args:
        schema: the table's schema.
        uri: where the library lies, for error messages.

    Raises:
        LibraryError: if steerclear did not make the table, or made it in a newer format.
    """
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise LibraryError(f"{uri!r} holds a table that steerclear did not make; choose another folder")
    try:
        metadata = json.loads(raw)
        version = int(metadata["format"])
        if version > FORMAT:  # before anything else of it is looked at
            raise LibraryError(
                f"the library at {uri!r} has format {version}, this steerclear reads {FORMAT}; upgrade "
                "steerclear"
            )
        specs = tuple(
            EncoderSpec(str(row["name"]), int(row["dim"]), str(row["fingerprint"]))
            for row in metadata["encoders"]
        )
        if not specs:
            raise ValueError("it names no encoder")
        for spec in specs:
            if spec.column not in schema.names:
                continue  # it lacks a column, which `read_specs` says and a migration cannot make up
            if getattr(schema.field(spec.column).type, "list_size", None) != spec.dim:
                raise ValueError(f"the vectors of encoder {spec.name!r} have another width than {spec.dim}")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise LibraryError(
            f"the library at {uri!r} is damaged: its metadata cannot be read ({error}); restore a backup"
        ) from error
    return version, specs


def other_columns(schema: pa.Schema, specs: Sequence[EncoderSpec]) -> tuple[list[str], list[str]]:
    """The names of the columns that a table lacks, or has with another type, and of those that it should not
    have.
    """
    expected = arrow_schema(specs, turns=True)
    lacking = [
        field.name
        for field in expected
        if field.name not in schema.names or not schema.field(field.name).type.equals(field.type)
    ]
    foreign = [name for name in schema.names if name not in expected.names]
    return [name for name in lacking if name != TURN or TURN in schema.names], foreign


def free_id(entry: Entry, taken: set[str]) -> str:
    """Returns the first free one of the file's stem, the stem with the start of the hash, and the hash.

    Args:
        entry: the new item.
        taken: the ids that other items have.
    """
    item = entry.item
    name = entry.name or re.split(r"[/\\]", item.source)[-1]
    stem = name.rsplit(".", 1)[0].strip() or item.sha256[:16]
    candidates = (stem, f"{stem}-{item.sha256[:8]}", item.sha256[:16], item.sha256)
    return next(candidate for candidate in candidates if candidate not in taken)
