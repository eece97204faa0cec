"""The beyond-diffusion recipe trains from nothing, and its table says what its document holds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from steerclear_lab.bench.beyond import recipe, trial
from steerclear_lab.bench.beyond.__main__ import page
from steerclear_lab.emoji.training import Schedule

DOCS = Path(__file__).parents[3] / "docs" / "benchmarks"


def test_a_few_steps_train_both_generators_and_the_guards_take_them(tmp_path):
    pytest.importorskip("scipy")
    schedule = Schedule(steps=2, batch=4, rate=1e-3, warmup=1)
    vae = recipe.train_vae(tmp_path, schedule)
    generator = recipe.train_generator(tmp_path, vae, replace(schedule, steps=1))
    guards = trial.guards(vae, generator)
    for guard in guards.values():
        out = guard(2, generator=torch.Generator().manual_seed(0))
        assert [r.outcome for r in out.reports] == ["clear", "clear"]  # untrained, it draws no copy
    assert sum(p.numel() for p in vae.parameters()) < 2_000_000


def test_half_of_every_batch_is_planted():
    pools = recipe.planted_pictures()[1], recipe.training_pictures()
    drawn = recipe.draw(pools, 8, torch.Generator().manual_seed(0))
    planted = [bool((row == pools[0] * 2 - 1).flatten(1).all(1).any()) for row in drawn]
    assert planted == [True] * 4 + [False] * 4


def test_the_published_table_is_what_its_document_holds_and_nothing_flagged_was_handed_out():
    document = json.loads((DOCS / "beyond.json").read_text())
    assert (DOCS / "beyond.md").read_text() == page(document)
    for rows in document["rows"].values():
        assert not any(row["flagged"] for row in rows)
        assert all(row["identical"] for row in rows if row["outcome"] == "clear")
        assert all(row["plain_flagged"] == (row["outcome"] != "clear") for row in rows)
