"""Nearest pictures of a library too large for memory: Lance's index proposes, exact cosines decide.

The index keeps one bit per dimension (RaBitQ, Gao & Long, SIGMOD 2024), so that all its partitions can be
scanned; the best candidates by these bits are fetched in full and compared exactly. Rows that were added
after the index was built are also compared exactly. How much it misses is measured in
docs/benchmarks/scale.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from steerclear.errors import EncoderError
from steerclear.library.failures import lance_errors, read_again

if TYPE_CHECKING:
    from torch import Tensor

LEAST_ROWS = 10_000  # with fewer rows an index is slower than comparing everything
ROWS_PER_PARTITION = 8192
CANDIDATES = 64  # compared exactly, for each match that is asked for


def build(table: Any, column: str) -> None:
    """Makes the index of a vector column, or replaces it."""
    from lancedb.index import IvfRq

    partitions = max(1, table.count_rows() // ROWS_PER_PARTITION)
    table.create_index(column, config=IvfRq(distance_type="cosine", num_partitions=partitions), replace=True)


def has_index(table: Any, column: str) -> bool:
    """Returns whether a vector column has an index."""
    return any(column in index.columns for index in table.list_indices())


@dataclass(frozen=True, slots=True)
class LanceIndex:
    """The indexed vectors of one encoder, on disk or object storage.

    Attributes:
        uri: where the library lies, for error messages.
        table: the LanceDB table.
        column: the indexed vector column.
    """

    uri: str
    table: Any
    column: str

    def __len__(self) -> int:
        with lance_errors(self.uri):
            return int(self.table.count_rows())

    def matches(self, queries: Tensor, k: int = 1) -> list[list[tuple[str, float]]]:
        """Returns the k best (id, cosine) of each query, best first.

        Args:
            queries: (Q, D), of unit length.
            k: how many matches per query.

        Raises:
            EncoderError: if a query is not finite: it would match nothing and pass as clear.
            LibraryError: if the table cannot be read.
        """
        import torch

        if queries.ndim != 2 or not bool(torch.isfinite(queries).all()):
            raise EncoderError(
                f"a query embedding of shape {tuple(queries.shape)} cannot be compared: it must be (Q, D) "
                "and finite; check the encoder"
            )
        return [self._search(query, k) for query in queries.float().cpu()]

    def _search(self, query: Tensor, k: int) -> list[tuple[str, float]]:
        """The k best (id, cosine) of one query (D,)."""
        import torch

        with lance_errors(self.uri):
            partitions = max(1, len(self) // ROWS_PER_PARTITION)  # all are scanned
            rows = read_again(
                lambda: (
                    self.table.search(query.numpy(), vector_column_name=self.column)
                    .distance_type("cosine")
                    .refine_factor(CANDIDATES)
                    .nprobes(partitions)
                    .select(["id", self.column, "_distance"])
                    .limit(k)
                    .to_arrow()
                )
            )
        if not len(rows):
            return []
        flat = rows[self.column].combine_chunks().flatten()
        vectors = torch.tensor(flat.to_numpy(zero_copy_only=False)).reshape(len(rows), -1)
        matches = zip(rows["id"].to_pylist(), (vectors @ query).tolist(), strict=True)
        return sorted(matches, key=lambda match: -match[1])
