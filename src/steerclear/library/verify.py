"""Checking a whole library: can every item still be read, compared and found where it came from."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steerclear.errors import ImageError, LibraryError
from steerclear.library.files import open_file, same_store
from steerclear.library.images import THUMBNAIL, read_image
from steerclear.library.rows import check_unit_length
from steerclear.library.sources import Source, discover, read_source

if TYPE_CHECKING:
    import pyarrow as pa

    from steerclear.library.store import Library


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one item.

    Attributes:
        id: the item.
        reason: what is wrong with it.
    """

    id: str
    reason: str


def verify(library: Library, *, sources: bool = False, remote: bool = False) -> list[Problem]:
    """Reads everything and lists what is wrong.

    It checks that every id and hash occurs once, that thumbnails are pictures of 64 × 64, and that vectors
    are finite and of unit length.

    Args:
        library: the library to check.
        sources: also check that each source still has the bytes that were added. The library names them,
            and somebody else may have made it: only regular files are read, and what they hold is shown
            to nobody.
        remote: also read sources that are addresses with "://" outside of the library's own store.

    Returns:
        The problems; an empty list if all is well.

    Raises:
        LibraryError: if the library cannot be read at all.
    """
    import torch

    rows = library.export()
    ids: list[str] = rows["id"].to_pylist()
    hashes: list[str] = rows["sha256"].to_pylist()
    problems = [Problem(id_, f"the id occurs {n} times") for id_, n in Counter(ids).items() if n > 1]
    repeated = {sha256 for sha256, n in Counter(hashes).items() if n > 1}
    problems += [
        Problem(id_, "the same picture is in the library twice")
        for id_, sha256 in zip(ids, hashes, strict=True)
        if sha256 in repeated
    ]
    for item_id, png in zip(ids, rows["thumbnail"].to_pylist(), strict=True):
        try:
            size = read_image(png, name="the thumbnail").size
        except ImageError as error:
            problems.append(Problem(item_id, str(error)))
        else:
            if size != (THUMBNAIL, THUMBNAIL):
                reason = f"the thumbnail has {size[0]} × {size[1]} pixels, not {THUMBNAIL} × {THUMBNAIL}"
                problems.append(Problem(item_id, reason))
    for spec in library.encoders:
        for item_id, vector in zip(ids, rows[spec.column].to_pylist(), strict=True):
            try:
                check_unit_length(torch.tensor(vector)[None], spec.name)
            except LibraryError:
                problems.append(
                    Problem(item_id, f"its vector of encoder {spec.name!r} is not of unit length")
                )
    if sources:
        problems += _source_problems(library.uri, rows, remote)
    return problems


def _source_problems(uri: str, rows: pa.Table, remote: bool) -> list[Problem]:
    """Sources that cannot or may not be read, or have other bytes than those that were added."""
    problems = []
    shards: dict[str, dict[str, str]] = {}
    columns = (rows[name].to_pylist() for name in ("source", "id", "sha256"))
    for ref, item_id, sha256 in zip(*columns, strict=True):
        if "://" in ref and not remote and not same_store(ref, uri):
            reason = f"its source {ref!r} is not read: it is an address; allow those with --allow-remote"
            problems.append(Problem(item_id, reason))
            continue
        try:
            shard, is_member, _ = ref.partition(".tar#")
            if is_member and shard not in shards:
                shards[shard] = _hashes_of_shard(f"{shard}.tar")
            current = shards[shard][ref] if is_member else hashlib.sha256(read_source(ref)).hexdigest()
        except Exception as error:  # each kind of source fails in its own way
            problems.append(Problem(item_id, f"its source {ref!r} cannot be read: {error}"))
        else:
            if current != sha256:
                problems.append(Problem(item_id, f"its source {ref!r} has changed since it was added"))
    return problems


def _hashes_of_shard(path: str) -> dict[str, str]:
    """The ref of every picture in a shard → its SHA-256."""
    open_file(path).close()  # not a folder, a pattern or an address, whose files would all be read
    return {source.ref: _sha256(source) for source in discover([path]).sources}


def _sha256(source: Source) -> str:
    return hashlib.sha256(source.read()).hexdigest()
