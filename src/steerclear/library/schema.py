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


@dataclass(frozen=True, slots=True)
class Item:
    """One protected picture as the library knows it, without vectors and thumbnail.

    source: path or URI that it came from; sha256: of the file's bytes; phash: 16 hex digits, see
    `images.phash`; policy: "steer" nudges a copy away, "withhold" never hands out anything for it; added:
    UTC.
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
        """Plain JSON-ready dictionary."""
        return asdict(self) | {"tags": list(self.tags), "added": self.added.isoformat()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture on its way into the library.

    item: its id is the wish of the caller, and "" lets the library choose one; thumbnail: PNG bytes, RGB 64
    × 64; vectors: encoder name → (dim,) of unit length, one for every encoder of the library.
    """

    item: Item
    thumbnail: bytes
    vectors: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Version:
    """One committed state of a library: number, time (UTC) and how many items it holds."""

    version: int
    committed: datetime
    items: int


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of the entries: ids added, sources skipped as exact copies, (source, reason) refused."""

    added: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder as the library remembers it: enough to notice that another one is being used."""

    name: str
    dim: int
    fingerprint: str

    @classmethod
    def of(cls, encoder: Encoder) -> EncoderSpec:
        return cls(encoder.name, int(encoder.dim), str(encoder.fingerprint))

    @property
    def column(self) -> str:
        return vector_column(self.name)

    def __str__(self) -> str:
        return f"{self.name!r} ({self.dim}-d, fingerprint {self.fingerprint})"


ITEM_COLUMNS = tuple(f for f in Item.__dataclass_fields__)


def vector_column(encoder_name: str) -> str:
    """Column that holds the vectors of `encoder_name`; characters that SQL would trip over become "_"."""
    return "vector_" + re.sub(r"[^A-Za-z0-9_]", "_", encoder_name)


def arrow_schema(specs: Sequence[EncoderSpec]) -> pa.Schema:
    """Columns of a library with these encoders; the encoders travel in the schema's metadata.

    Metadata and table are then born in one commit, so no crash can leave one without the other.
    Raises LibraryError when there is no encoder, or two want the same column.
    """
    import pyarrow as pa

    if not specs:
        raise LibraryError("a library needs at least one encoder; pass encoders=[…]")
    if len({s.column for s in specs}) != len(specs):
        raise LibraryError(f"encoder names must differ, got {', '.join(repr(s.name) for s in specs)}")
    text = [(name, pa.string()) for name in ("id", "source", "sha256", "phash")]
    described = [(name, pa.string()) for name in ("owner", "licence", "note", "caption")]
    rest = [("tags", pa.list_(pa.string())), ("policy", pa.string()), ("added", pa.timestamp("us", "UTC"))]
    vectors = [(s.column, pa.list_(pa.float32(), s.dim)) for s in specs]
    columns = [*text, *described, *rest, ("thumbnail", pa.binary()), *vectors]
    about = {"format": FORMAT, "encoders": [asdict(s) for s in specs]}
    fields = [pa.field(name, kind, nullable=False) for name, kind in columns]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(about).encode()})


def read_specs(schema: pa.Schema, uri: str) -> tuple[EncoderSpec, ...]:
    """The encoders that `schema` was made for; LibraryError when the table was not made by steerclear."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise LibraryError(f"{uri!r} holds a table that steerclear did not make; choose another folder")
    try:
        about = json.loads(raw)
        version, encoders = int(about["format"]), about["encoders"]
        specs = tuple(EncoderSpec(str(e["name"]), int(e["dim"]), str(e["fingerprint"])) for e in encoders)
    except (ValueError, KeyError, TypeError) as error:
        raise LibraryError(
            f"the library at {uri!r} is damaged: its metadata cannot be read ({error})"
        ) from error
    if version > FORMAT:
        raise LibraryError(
            f"the library at {uri!r} has format {version}, this steerclear reads {FORMAT}; upgrade it"
        )
    return specs


def to_arrow(entries: Sequence[Entry], specs: Sequence[EncoderSpec], schema: pa.Schema) -> pa.Table:
    """Rows for `entries`; LibraryError when a vector is missing or not (dim,), finite and of unit length."""
    import pyarrow as pa
    import torch

    columns: dict[str, Any] = {
        name: [getattr(e.item, name) for e in entries] for name in ITEM_COLUMNS if name != "tags"
    }
    columns["tags"] = [list(e.item.tags) for e in entries]
    columns["thumbnail"] = [e.thumbnail for e in entries]
    for spec in specs:
        for entry in entries:
            vector = entry.vectors.get(spec.name)
            if vector is None or tuple(vector.shape) != (spec.dim,):
                got = "no vector" if vector is None else f"a vector of shape {tuple(vector.shape)}"
                raise LibraryError(f"{entry.item.source!r} comes with {got} for encoder {spec}")
        stacked = torch.stack([e.vectors[spec.name].detach().float().cpu() for e in entries])
        check_unit_length(stacked, spec.name)
        stacked = torch.nn.functional.normalize(stacked, dim=1)  # half precision is off by up to 1e-3
        flat = pa.array(stacked.flatten().numpy(), type=pa.float32())
        columns[spec.column] = pa.FixedSizeListArray.from_arrays(flat, spec.dim)
    return pa.table(columns, schema=schema)


def from_arrow(table: pa.Table) -> list[Item]:
    """The items in `table`, which has at least the columns of Item."""
    rows = table.select(list(ITEM_COLUMNS)).to_pylist()
    return [
        Item(**(row | {"tags": tuple(row["tags"]), "added": row["added"].astimezone(UTC)})) for row in rows
    ]


def check_unit_length(vectors: Tensor, encoder_name: str) -> None:
    """vectors: (N, D). LibraryError unless every row is finite and of unit length within 1 %."""
    import torch

    bad = ~torch.isclose(vectors.norm(dim=1), torch.ones(()), atol=1e-2, rtol=0.0)
    if bool(bad.any()):  # NaN compares unequal, so it lands here too
        rows = bad.nonzero().flatten().tolist()
        raise LibraryError(
            f"{len(rows)} vector(s) of encoder {encoder_name!r} are not finite and of unit length "
            f"(first: row {rows[0]}); remove these items and add them again"
        )


def free_id(item: Item, taken: set[str]) -> str:
    """The first free one of the file's stem, the stem with the start of its hash, and the hash."""
    name = re.split(r"[/\\#]", item.source)[-1]
    stem = name.rsplit(".", 1)[0].strip() or item.sha256[:16]
    return next(
        i for i in (stem, f"{stem}-{item.sha256[:8]}", item.sha256[:16], item.sha256) if i not in taken
    )
