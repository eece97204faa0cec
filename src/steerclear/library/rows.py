"""Between a library's Arrow rows and what others use: items, vectors, thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

from steerclear.errors import ImageError, LibraryError
from steerclear.library.images import THUMBNAIL, read_image, square_tensor
from steerclear.library.schema import ITEM_COLUMNS, TURN, EncoderSpec, Entry, Item

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor


def to_arrow(
    entries: Sequence[Entry], specs: Sequence[EncoderSpec], schema: pa.Schema, turn: int = 0
) -> pa.Table:
    """Returns the rows of new entries.

    Args:
        entries: the pictures to be added.
        specs: the library's encoders.
        schema: the library's columns.
        turn: of the addition, where the library counts them.

    Raises:
        LibraryError: if a vector is missing, or is not (dim,), finite and of unit length.
    """
    import pyarrow as pa
    import torch

    columns: dict[str, Any] = {
        name: [getattr(entry.item, name) for entry in entries] for name in ITEM_COLUMNS if name != "tags"
    }
    columns["tags"] = [list(entry.item.tags) for entry in entries]
    columns["thumbnail"] = [entry.thumbnail for entry in entries]
    if TURN in schema.names:
        columns[TURN] = [turn] * len(entries)
    for spec in specs:
        for entry in entries:
            vector = entry.vectors.get(spec.name)
            if vector is None or tuple(vector.shape) != (spec.dim,):
                what = "no vector" if vector is None else f"a vector of shape {tuple(vector.shape)}"
                raise LibraryError(
                    f"{entry.item.source!r} comes with {what} for encoder {spec}; embed it again"
                )
        vectors = torch.stack([entry.vectors[spec.name].detach().float().cpu() for entry in entries])
        check_unit_length(vectors, spec.name)
        vectors = torch.nn.functional.normalize(vectors, dim=1)  # half precision is off by up to 1e-3
        flat = pa.array(vectors.flatten().numpy(), type=pa.float32())
        columns[spec.column] = pa.FixedSizeListArray.from_arrays(flat, spec.dim)
    return pa.table(columns, schema=schema)


def items_from(rows: pa.Table) -> list[Item]:
    """Returns the items in rows that have at least the columns of Item."""
    records = rows.select(list(ITEM_COLUMNS)).to_pylist()
    return [
        Item(**(record | {"tags": tuple(record["tags"]), "added": record["added"].astimezone(UTC)}))
        for record in records
    ]


def vectors_from(rows: pa.Table, spec: EncoderSpec) -> Tensor:
    """Returns the vectors of one encoder, (N, dim) float32.

    Raises:
        LibraryError: if one is not finite and of unit length: a damaged vector would silently protect
            nothing.
    """
    import torch

    flat = rows[spec.column].combine_chunks().flatten()
    values = torch.tensor(flat.to_numpy(zero_copy_only=False), dtype=torch.float32)
    vectors = values.reshape(len(rows), spec.dim)
    check_unit_length(vectors, spec.name)
    return vectors


def thumbnails_from(rows: pa.Table, uri: str) -> Tensor:
    """Returns the thumbnails (N, 3, 64, 64) in [0, 1] of rows with the columns id and thumbnail.

    Args:
        rows: rows of the library.
        uri: where the library lies, for error messages.

    Raises:
        LibraryError: if one cannot be decoded.
    """
    import torch

    thumbnails = torch.empty(len(rows), 3, THUMBNAIL, THUMBNAIL)
    records = zip(rows["id"].to_pylist(), rows["thumbnail"].to_pylist(), strict=True)
    for i, (item_id, png) in enumerate(records):
        try:
            thumbnails[i] = square_tensor(read_image(png), THUMBNAIL)
        except ImageError as error:
            raise LibraryError(
                f"the thumbnail of {item_id!r} in the library at {uri!r} is damaged: {error}; remove the "
                "item and add its picture again"
            ) from error
    return thumbnails


def check_unit_length(vectors: Tensor, encoder_name: str) -> None:
    """Checks that every vector is finite and of unit length within 1 %.

    Args:
        vectors: (N, D).
        encoder_name: the encoder that made them, for error messages.

    Raises:
        LibraryError: if one is not.
    """
    import torch

    bad = ~torch.isclose(vectors.norm(dim=1), torch.ones(()), atol=1e-2, rtol=0.0)
    if bool(bad.any()):  # NaN is close to nothing, so it counts as bad
        rows = bad.nonzero().flatten().tolist()
        raise LibraryError(
            f"{len(rows)} vector(s) of encoder {encoder_name!r} are not finite and of unit length "
            f"(first: row {rows[0]}); remove these items and add them again"
        )
