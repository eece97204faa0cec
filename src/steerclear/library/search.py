"""Nearest protected pictures by cosine, exactly: every query is compared with every vector.

An approximate index misses a copy now and then, and one miss is one leak. Exact search is one matrix product:
a million vectors of 512 numbers are compared in tens of milliseconds on a GPU. Only a larger library is
searched by an index on disk, see `approximate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steerclear.errors import EncoderError, LibraryError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CHUNK_SCORES = 1 << 24  # scores held in memory at once: 64 MB of float32


def nearest(
    queries: Tensor, vectors: Tensor, k: int = 1, *, chunk: int = CHUNK_SCORES
) -> tuple[Tensor, Tensor]:
    """Finds the k best matches of each query, computed in float32 on the device of `vectors`.

    Args:
        queries: (Q, D), of unit length for the scores to be cosines.
        vectors: (N, D), of unit length.
        k: how many matches per query; at most N are returned.
        chunk: about how many scores are held in memory at a time.

    Returns:
        The scores (Q, k), highest first, and the row indices of the matches (Q, k). Ties come in any order.

    Raises:
        EncoderError: if a query is not finite (it would match nothing and pass as clear), or the widths
            differ.
        ValueError: if k is less than 1.
    """
    import torch

    if queries.ndim != 2 or vectors.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise EncoderError(
            f"cannot compare queries {tuple(queries.shape)} with vectors {tuple(vectors.shape)}; "
            "both must come from the same encoder"
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    queries, vectors = queries.to(vectors.device, torch.float32), vectors.float()
    if not bool(torch.isfinite(queries).all()):
        raise EncoderError(
            "a query embedding holds NaN or infinity, so it cannot be compared; check the encoder"
        )
    count, k = len(vectors), min(k, len(vectors))
    scores = queries.new_empty(len(queries), k)
    indices = torch.empty(len(queries), k, dtype=torch.long, device=vectors.device)
    if k == 0:
        return scores, indices
    # one product where it fits in memory; else block by block, keeping the best so far
    columns = min(count, chunk)
    rows = max(1, chunk // columns)
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        scores[block], indices[block] = _top_k(queries[block], vectors=vectors, k=k, columns=columns)
    return scores, indices


def _top_k(queries: Tensor, vectors: Tensor, k: int, columns: int) -> tuple[Tensor, Tensor]:
    """The k best scores and their row indices, from `columns` vectors at a time."""
    import torch

    scores, indices = (queries @ vectors[:columns].T).topk(min(k, columns), dim=1)
    for first in range(columns, len(vectors), columns):
        block_scores = queries @ vectors[first : first + columns].T
        block_indices = torch.arange(first, first + block_scores.shape[1], device=vectors.device)
        candidates = torch.cat([scores, block_scores], 1)
        positions = torch.cat([indices, block_indices.expand(len(queries), -1)], 1)
        scores, order = candidates.topk(min(k, candidates.shape[1]), dim=1)
        indices = positions.gather(1, order)
    return scores, indices


@dataclass(frozen=True, slots=True)
class Index:
    """The vectors of one encoder in memory, to be searched exactly.

    Attributes:
        ids: N item ids; `ids[i]` belongs to `vectors[i]`.
        vectors: (N, D) float32, of unit length, on the device where queries are compared.

    Raises:
        LibraryError: if there are more or fewer ids than vectors.
    """

    ids: tuple[str, ...]
    vectors: Tensor

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.ids) != len(self.vectors):
            raise LibraryError(f"{len(self.ids)} ids do not fit vectors of shape {tuple(self.vectors.shape)}")

    @classmethod
    def of(cls, ids: Sequence[str], vectors: Tensor, device: torch.device | str = "cpu") -> Index:
        """Makes an index on a device, e.g. `Index.of(*library.vectors("descriptor"))`.

        Args:
            ids: N item ids.
            vectors: (N, D), of unit length, in the order of the ids.
            device: where queries are compared.

        Raises:
            LibraryError: if there are more or fewer ids than vectors.
        """
        return cls(tuple(ids), vectors.to(device))

    def __len__(self) -> int:
        return len(self.ids)

    def nearest(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Returns the scores and row indices of the best matches, each (Q, k); see the function `nearest`."""
        return nearest(queries, self.vectors, k)

    def matches(self, queries: Tensor, k: int = 1) -> list[list[tuple[str, float]]]:
        """Returns the k best (id, cosine) of each query, best first.

        Args:
            queries: (Q, D), of unit length.
            k: how many matches per query.

        Raises:
            EncoderError: if a query is not finite, or of another width.
        """
        scores, indices = self.nearest(queries, k)
        rows = zip(scores.tolist(), indices.tolist(), strict=True)
        return [[(self.ids[i], score) for score, i in zip(*row, strict=True)] for row in rows]
