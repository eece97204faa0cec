"""The judge's descriptor learns from altered views, and never from a protected picture."""

from __future__ import annotations

import pytest
import torch

from steerclear_lab.assets import COPY_JUDGE
from steerclear_lab.bench.copy_judge import network, training
from steerclear_lab.bench.copy_judge.pictures import SIDE, ordinary_drawings, unlike_protected
from steerclear_lab.bench.copy_judge.views import altered, hue_turns, mixed
from steerclear_lab.bench.judge import protected_pictures
from steerclear_lab.emoji.training import Schedule


def pictures(count: int = 12) -> torch.Tensor:
    return ordinary_drawings()[:count]


def test_views_differ_have_one_size_and_follow_their_seed():
    images = pictures().float() / 255
    view, other_seed, same_seed = (altered(images, torch.Generator().manual_seed(s)) for s in (1, 2, 1))
    assert view.shape == (12, 3, network.SIDE, network.SIDE)
    assert 0 <= float(view.min()) <= float(view.max()) <= 1
    assert torch.equal(view, same_seed)
    assert bool(((view - other_seed).abs().mean(dim=(1, 2, 3)) > 0.005).all())


def test_a_mixed_view_shows_both_pictures():
    dark, light = torch.zeros(20, 3, 64, 64), torch.ones(20, 3, 64, 64)
    means = mixed(dark, light, torch.Generator().manual_seed(0)).mean(dim=(1, 2, 3))
    assert bool(((means > 0.3) & (means < 0.7)).all())


def test_a_whole_turn_of_the_hue_changes_nothing_and_grey_stays_grey():
    turns = hue_turns(torch.tensor([0.0, 1.0, 2 * torch.pi]))
    assert torch.allclose(turns[0], torch.eye(3), atol=1e-5)
    assert torch.allclose(turns[2], torch.eye(3), atol=1e-5)
    assert torch.allclose(turns[1] @ torch.full((3,), 0.4), torch.full((3,), 0.4), atol=1e-5)


def test_protected_pictures_are_left_out_even_mirrored():
    protected = (protected_pictures()[1] * 255).round().to(torch.uint8)
    larger = torch.nn.functional.interpolate(protected.float(), size=(SIDE, SIDE)).to(torch.uint8)
    assert len(unlike_protected(larger)) == 0
    assert len(unlike_protected(larger.flip(-1))) == 0
    assert len(unlike_protected(pictures())) == 12


def test_the_loss_is_lower_where_views_of_a_picture_lie_together_and_apart_from_others():
    same = torch.eye(4, dtype=torch.bool).repeat(2, 2)
    apart = torch.nn.functional.normalize(
        torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), dim=1
    )
    together = torch.eye(4, 16).repeat(2, 1)
    contrast, entropy = training.loss_of(together, same)
    assert float(contrast) < float(training.loss_of(apart, same)[0])
    crowded = torch.nn.functional.normalize(together + 1, dim=1)
    assert float(contrast) < float(training.loss_of(crowded, same)[0])
    assert float(entropy) < float(training.loss_of(crowded, same)[1])


def test_a_short_training_ends_in_a_network_that_is_written_and_read(tmp_path):
    trained = training.train(
        pictures(40), pictures(20), folder=tmp_path, schedule=Schedule(steps=2, batch=16, rate=1e-3)
    )
    network.save(trained, tmp_path / "judge.safetensors")
    loaded = network.load(tmp_path / "judge.safetensors")
    images = torch.rand(3, 3, 64, 64)
    assert torch.allclose(loaded(images), trained(images).detach(), atol=0.02)
    assert loaded(images).norm(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-4)


def test_the_weights_that_ship_are_small():
    assert COPY_JUDGE.stat().st_size < 2_000_000
