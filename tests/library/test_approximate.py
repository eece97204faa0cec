"""The approximate index finds planted near-duplicates, new rows at once, and refuses what it cannot judge."""

from __future__ import annotations

import lancedb
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from steerclear.errors import EncoderError, LibraryError
from steerclear.library import approximate
from steerclear.library.approximate import LanceIndex

ROWS, DIM = 12_000, 64


def unit(count, seed):
    return F.normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def arrow(ids, vectors):
    flat = pa.array(vectors.flatten().numpy())
    return pa.table({"id": ids, "vector": pa.FixedSizeListArray.from_arrays(flat, DIM)})


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    vectors = unit(ROWS, 0)
    uri = str(tmp_path_factory.mktemp("lance"))
    table = lancedb.connect(uri).create_table("items", arrow([str(i) for i in range(ROWS)], vectors))
    assert not approximate.has_index(table, "vector")
    approximate.build(table, "vector")
    assert approximate.has_index(table, "vector")
    return LanceIndex(uri, table, "vector"), vectors


def test_every_planted_near_duplicate_comes_back_first_with_its_exact_cosine(indexed):
    index, vectors = indexed
    base = vectors[::120]
    queries = F.normalize(base + 0.5 * unit(len(base), 1), dim=1)
    matches = index.matches(queries, 3)
    assert [row[0][0] for row in matches] == [str(i) for i in range(0, ROWS, 120)]
    exact = (queries * base).sum(1).tolist()
    assert [row[0][1] for row in matches] == pytest.approx(exact, abs=1e-5)
    assert all(row == sorted(row, key=lambda pair: -pair[1]) for row in matches)


def test_a_row_added_after_the_index_was_built_is_found(indexed):
    index, _ = indexed
    new = unit(1, 99)
    index.table.add(arrow(["new"], new))
    assert index.matches(new, 1)[0][0] == ("new", pytest.approx(1.0))


def test_a_query_that_is_not_finite_is_refused(indexed):
    index, _ = indexed
    with pytest.raises(EncoderError, match="cannot be compared"):
        index.matches(torch.full((1, DIM), float("nan")))


def test_a_small_library_needs_no_index_and_says_so(library):
    with pytest.raises(LibraryError, match="comparing everything is faster"):
        library.build_index()
