"""Nearest protected pictures by cosine, exactly: every query meets every vector.

An approximate index would miss a copy now and then, and one miss is one leak. Exact search costs one matrix
product: a million vectors of 512 numbers answer in tens of milliseconds on a GPU, so speed is no reason to
approximate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from steerclear.errors import EncoderError, LibraryError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from steerclear.library.store import Library

CHUNK_SCORES = 1 << 24  # scores held at once: 64 MB of float32


def nearest(
    queries: Tensor, vectors: Tensor, k: int = 1, *, chunk: int = CHUNK_SCORES
) -> tuple[Tensor, Tensor]:
    """The k best matches of each query: scores (Q, k) falling, and their row indices (Q, k).

    queries: (Q, D), vectors: (N, D), of unit length for the scores to be cosines; computed in float32 on the
    device of `vectors`; k is cut to N. Ties come in any order. Memory: about `chunk` scores at a time.
    Raises EncoderError when a query is not finite (it would match nothing and pass as clear) or widths
    differ.
    """
    import torch

    if queries.ndim != 2 or vectors.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise EncoderError(
            f"cannot compare queries {tuple(queries.shape)} with vectors {tuple(vectors.shape)}"
        )
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    queries, vectors = queries.to(vectors.device, torch.float32), vectors.float()
    if not bool(torch.isfinite(queries).all()):
        raise EncoderError("a query embedding holds NaN or infinity; it cannot be judged")
    count, k = len(vectors), min(k, len(vectors))
    scores = queries.new_empty(len(queries), k)
    indices = torch.empty(len(queries), k, dtype=torch.long, device=vectors.device)
    if k == 0:
        return scores, indices
    # one product where it fits; else blocks of rows, whose best are merged with the best so far
    columns = min(count, chunk)
    rows = max(1, chunk // columns)
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        scores[block], indices[block] = _best(queries[block], vectors, k, columns)
    return scores, indices


def _best(queries: Tensor, vectors: Tensor, k: int, columns: int) -> tuple[Tensor, Tensor]:
    import torch

    top, where = (queries @ vectors[:columns].T).topk(min(k, columns), dim=1)
    for first in range(columns, len(vectors), columns):
        found = queries @ vectors[first : first + columns].T
        seen = torch.arange(first, first + found.shape[1], device=vectors.device).expand(len(queries), -1)
        scores, places = torch.cat([top, found], 1), torch.cat([where, seen], 1)
        top, order = scores.topk(min(k, scores.shape[1]), dim=1)
        where = places.gather(1, order)
    return top, where


@dataclass(frozen=True, slots=True)
class Index:
    """A library's vectors of one encoder on one device: ids[i] belongs to vectors[i] of (N, D) float32."""

    ids: tuple[str, ...]
    vectors: Tensor

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.ids) != len(self.vectors):
            raise LibraryError(f"{len(self.ids)} ids do not fit vectors of shape {tuple(self.vectors.shape)}")

    @classmethod
    def of(cls, library: Library, encoder_name: str, device: torch.device | str = "cpu") -> Index:
        """The index of `library` for one of its encoders; LibraryError when it has none of that name."""
        ids, vectors = library.vectors(encoder_name)
        return cls(tuple(ids), vectors.to(device))

    def __len__(self) -> int:
        return len(self.ids)

    def nearest(self, queries: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """Scores and row indices, each (Q, k); see `nearest`."""
        return nearest(queries, self.vectors, k)

    def matches(self, queries: Tensor, k: int = 1) -> list[list[tuple[str, float]]]:
        """For each query the k best (id, cosine), best first."""
        scores, indices = self.nearest(queries, k)
        pairs = zip(scores.tolist(), indices.tolist(), strict=True)
        return [[(self.ids[i], s) for s, i in zip(*row, strict=True)] for row in pairs]
