"""Looking a whole library over: can every item still be read, compared and found where it came from."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steerclear.errors import ImageError, LibraryError
from steerclear.library.images import THUMBNAIL, read_image
from steerclear.library.schema import check_unit_length
from steerclear.library.sources import Source, discover

if TYPE_CHECKING:
    from steerclear.library.store import Library


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one item."""

    id: str
    reason: str


def verify(library: Library, *, sources: bool = False) -> list[Problem]:
    """Read everything and return what is wrong, [] when all is well.

    Looks at ids and hashes (each once), thumbnails (a 64 × 64 picture) and vectors (finite, unit length);
    with `sources` also whether each source still has the bytes that were added. Raises LibraryError when the
    library cannot even be read.
    """
    import torch

    rows = library.export()
    ids: list[str] = rows["id"].to_pylist()
    hashes: list[str] = rows["sha256"].to_pylist()
    problems = [Problem(i, f"the id occurs {n} times") for i, n in Counter(ids).items() if n > 1]
    twice = {h for h, n in Counter(hashes).items() if n > 1}
    problems += [
        Problem(i, "the same picture is there twice") for i, h in zip(ids, hashes, strict=True) if h in twice
    ]
    for item_id, png in zip(ids, rows["thumbnail"].to_pylist(), strict=True):
        try:
            size = read_image(png, name="the thumbnail").size
        except ImageError as error:
            problems.append(Problem(item_id, str(error)))
        else:
            if size != (THUMBNAIL, THUMBNAIL):
                problems.append(Problem(item_id, f"the thumbnail has {size[0]} × {size[1]} pixels"))
    for spec in library.encoders:
        for item_id, vector in zip(ids, rows[spec.column].to_pylist(), strict=True):
            try:
                check_unit_length(torch.tensor(vector)[None], spec.name)
            except LibraryError:
                problems.append(
                    Problem(item_id, f"its vector of encoder {spec.name!r} is not of unit length")
                )
    if sources:
        problems += _sources(rows["source"].to_pylist(), ids, hashes)
    return problems


def _sources(refs: list[str], ids: list[str], hashes: list[str]) -> list[Problem]:
    problems = []
    shards: dict[str, dict[str, str]] = {}
    for ref, item_id, sha256 in zip(refs, ids, hashes, strict=True):
        try:
            shard = ref.rsplit("#", 1)[0] if ".tar#" in ref else None
            if shard and shard not in shards:
                shards[shard] = {s.ref: _sha256(s) for s in discover([shard])[0]}
            found = shards[shard][ref] if shard else _sha256(discover([ref])[0][0])
        except Exception as error:  # a source can fail in as many ways as there are stores
            problems.append(Problem(item_id, f"its source {ref!r} cannot be read: {error}"))
        else:
            if found != sha256:
                problems.append(Problem(item_id, f"its source {ref!r} has changed since it was added"))
    return problems


def _sha256(source: Source) -> str:
    return hashlib.sha256(source.read()).hexdigest()
