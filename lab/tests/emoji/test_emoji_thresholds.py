"""Thresholds lie between copies and ordinary pictures, or say where the two overlap."""

from __future__ import annotations

import pytest
import torch

from steerclear.errors import InputError
from steerclear_lab.emoji.thresholds import EARLY_STEPS, Scores, choose, flagged_share


def scores(center, n=200, seed=0, spread=0.02):
    draw = torch.Generator().manual_seed(seed)
    names = ("nearest", "pixel", "tiled", "copy")
    final = {name: center + spread * torch.randn(n, generator=draw) for name in names}
    return Scores(final, center + spread * torch.randn(n, EARLY_STEPS, generator=draw))


def test_separable_scores_give_thresholds_that_catch_every_copy_and_no_ordinary_picture():
    copies, clear = scores(0.9), scores(0.4, seed=1)
    chosen = choose(copies, clear)
    assert chosen["evidence"]["copies_flagged"] == 1.0
    assert chosen["evidence"]["clear_flagged"] == 0.0
    assert 0.45 < chosen["thresholds"]["nearest"] < 0.6
    assert chosen["early"]["step"] == 0


def test_the_thresholds_hold_on_scores_that_they_were_not_chosen_on():
    chosen = choose(scores(0.9), scores(0.4, seed=1))
    assert flagged_share(scores(0.9, seed=2), chosen["thresholds"]) >= 0.99
    assert flagged_share(scores(0.4, seed=3), chosen["thresholds"]) <= 0.005


def test_a_soft_copy_is_flagged_where_no_ordinary_picture_comes_near_it():
    chosen = choose(scores(0.9), scores(0.4, seed=1))
    assert flagged_share(scores(0.6, seed=4), chosen["thresholds"]) == 1.0


def test_a_rare_ordinary_picture_that_nearly_looks_like_a_copy_makes_room_for_the_next_one():
    copies, clear = scores(0.9), scores(0.4, seed=1)
    usual = choose(copies, clear)["thresholds"]
    clear.final["nearest"][0] = 0.84
    chosen = choose(copies, clear)
    assert chosen["thresholds"]["tiled"] == usual["tiled"]
    assert chosen["thresholds"]["nearest"] > 0.86
    assert float((copies.final["nearest"] >= chosen["thresholds"]["nearest"]).float().mean()) >= 0.945
    assert chosen["evidence"]["copies_flagged"] == 1.0


def test_overlapping_scores_keep_the_ordinary_pictures_clear_and_the_evidence_says_what_is_missed():
    chosen = choose(scores(0.5, spread=0.1), scores(0.45, seed=1, spread=0.1))
    assert (
        chosen["evidence"]["by_filter"]["nearest"]["clear_most"]
        > chosen["evidence"]["by_filter"]["nearest"]["copies_least"]
    )
    assert chosen["evidence"]["copies_flagged"] < 0.9
    assert chosen["early"] is None


def test_scores_that_are_not_finite_cannot_be_calibrated_on():
    broken = scores(0.9)
    broken.final["nearest"][3] = float("nan")
    with pytest.raises(InputError, match="nearest"):
        choose(broken, scores(0.4))


def test_the_copy_detector_keeps_its_floors_where_ordinary_pictures_stay_below_them():
    chosen = choose(scores(0.9), scores(0.4, seed=1))
    assert (chosen["thresholds"]["copy"], chosen["strict"]["copy"]) == (1.0, 0.93)


def test_the_copy_detector_is_stricter_than_its_floor_where_ordinary_pictures_reach_it():
    copies, clear = scores(2.0), scores(0.4, seed=1)
    clear.final["copy"] = torch.linspace(0.5, 1.2, 200)
    chosen = choose(copies, clear)
    flagged = clear.final["copy"] >= chosen["thresholds"]["copy"]
    assert int(flagged.sum()) == 1  # 0.5 % of 200
    assert 0.93 < chosen["strict"]["copy"] < chosen["thresholds"]["copy"]
