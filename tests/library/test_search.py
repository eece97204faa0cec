"""Search is exact: the chunks, the device and the order of rows never change what is found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from library_doubles import embed, picture
from torch.nn import functional as F

from steerclear.errors import EncoderError, LibraryError
from steerclear.library import Index, nearest


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40),
    queries=st.integers(1, 9),
    k=st.integers(1, 50),
    chunk=st.integers(1, 60),
    seed=st.integers(0, 1000),
)
def test_whatever_the_chunks_search_equals_brute_force(count, queries, k, chunk, seed):
    generator = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(count, 6, generator=generator), dim=1)
    wanted = F.normalize(torch.randn(queries, 6, generator=generator), dim=1)
    scores, indices = nearest(wanted, vectors, k, chunk=chunk)
    brute = (wanted[:, None] * vectors[None]).sum(-1)
    assert scores.shape == indices.shape == (queries, min(k, count))
    assert torch.allclose(scores, brute.sort(dim=1, descending=True).values[:, :k], atol=1e-5)
    assert torch.allclose(brute.gather(1, indices), scores, atol=1e-5)
    assert all(len(set(row)) == len(row) for row in indices.tolist())


def test_a_protected_picture_is_its_own_nearest_match(library, encoder):
    index = Index.of(*library.vectors("tiny"))
    for seed in range(5):
        (best, score), (_, second) = index.matches(embed(encoder, picture(seed)), k=2)[0]
        assert best == f"picture-{seed}"
        assert score == pytest.approx(1, abs=1e-5)
        assert second < score


def test_searching_nothing_finds_nothing():
    scores, indices = nearest(torch.ones(2, 3), torch.empty(0, 3), 4)
    assert scores.shape == indices.shape == (2, 0)


def test_half_precision_queries_are_compared_in_float32():
    scores, _ = nearest(torch.eye(3, dtype=torch.bfloat16), torch.eye(3))
    assert scores.dtype == torch.float32
    assert scores.flatten().tolist() == [1, 1, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_query_that_cannot_be_compared_is_an_error_and_not_a_low_score(value):
    with pytest.raises(EncoderError, match="NaN or infinity"):
        nearest(torch.full((1, 3), value), torch.eye(3))


def test_queries_of_another_width_and_senseless_k_are_refused():
    with pytest.raises(EncoderError, match=r"\(1, 4\).*\(3, 3\)"):
        nearest(torch.ones(1, 4), torch.eye(3))
    with pytest.raises(ValueError, match="at least 1"):
        nearest(torch.ones(1, 3), torch.eye(3), 0)
    with pytest.raises(LibraryError, match="1 ids"):
        Index(("a",), torch.eye(3))
