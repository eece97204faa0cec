"""What a prompt says as a whole, by the pipeline's own text encoder."""

from __future__ import annotations

import pytest
import torch

from steerclear.generators import PipelineRunner
from steerclear.generators.conditions import EMBEDS, MASK, POOLED, pooled_embedding
from steerclear.testing import FAMILIES, tiny_call, tiny_pipeline

WITHOUT = {
    "dit",
    "kandinsky22",
    "wuerstchen",
    "cascade",
    "zimage",
}  # class names, texts for a prior, lists of embeddings
TEXTS = ("a small fox", "a very large red bus in the rain", "a small fox")


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_of_any_length_become_vectors_of_one_length_the_same_text_the_same(family):
    runner = PipelineRunner(tiny_pipeline(family))
    kwargs = {k: v for k, v in tiny_call(family, "a cat").items() if k != "prompt"}
    rows = runner.pooled_embeddings(TEXTS, kwargs)
    assert (rows is None) == (family in WITHOUT)
    if rows is not None:
        assert rows.ndim == 2
        assert bool(rows.isfinite().all())
        assert torch.allclose(rows[0], rows[2], atol=1e-5)
        assert not torch.allclose(rows[0], rows[1], atol=1e-5)


def test_what_a_mask_leaves_out_says_nothing_and_a_pooled_embedding_says_all():
    tokens = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    short = {EMBEDS: tokens[:, :2], MASK: torch.ones(1, 2)}
    padded = {EMBEDS: tokens, MASK: torch.tensor([[1, 1, 0, 0]])}
    assert torch.allclose(pooled_embedding(short), pooled_embedding(padded))
    assert torch.equal(pooled_embedding({EMBEDS: tokens, POOLED: tokens[:, 0]}), tokens[0, 0])


def test_texts_are_encoded_once_until_others_are_encoded_for(monkeypatch):
    runner = PipelineRunner(tiny_pipeline("sd1"))
    encoded = []
    encode = runner.encode
    monkeypatch.setattr(runner, "encode", lambda text, kwargs: encoded.append(text) or encode(text, kwargs))
    for _ in range(3):
        runner.pooled_embeddings(TEXTS, {})
    assert encoded == list(TEXTS)
    runner.pooled_embeddings(TEXTS[:1], {})
    assert encoded == [*TEXTS, TEXTS[0]]
