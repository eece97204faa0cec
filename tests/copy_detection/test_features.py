"""Orientation maps say where edges run, whatever their colours."""

import pytest
import torch

from steerclear.copy_detection.features import box_mean, orientation_maps, shrunk, squared


def stripes(angle, side=48):
    """Smooth stripes whose colour changes along `angle`."""
    axis = torch.arange(side) / 6
    along = axis[None] * torch.cos(torch.tensor(angle)) + axis[:, None] * torch.sin(torch.tensor(angle))
    return (0.5 + 0.4 * torch.sin(along)).expand(1, 3, side, side)


@pytest.mark.parametrize("angle", [0.0, 0.6, 1.2])
def test_the_map_points_along_the_change_in_double_angle(angle):
    maps, _ = orientation_maps(stripes(angle))
    mean = maps[0].mean(dim=(1, 2))
    turn = torch.atan2(mean[1], mean[0]) / 2
    assert float(turn) == pytest.approx(angle, abs=0.05)


def test_a_negative_has_the_same_maps():
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(orientation_maps(picture)[0], orientation_maps(1 - picture)[0], atol=1e-5)


def test_less_contrast_leaves_the_maps_nearly_as_they_are():
    maps, faint = orientation_maps(stripes(0.4))[0], orientation_maps(0.3 + 0.4 * stripes(0.4))[0]
    alike = (maps * faint).sum() / (maps.norm() * faint.norm())
    assert float(alike) > 0.98


def test_a_plain_picture_has_no_directions():
    maps, strength = orientation_maps(torch.full((1, 3, 32, 32), 0.4))
    assert float(maps.abs().max()) == 0
    assert float(strength.max()) == 0


def test_means_over_squares_keep_a_plain_map_as_it_is():
    plain = torch.full((1, 2, 9, 7), 0.25)
    assert torch.allclose(box_mean(plain, 5), plain)
    spike = torch.zeros(1, 1, 9, 9)
    spike[0, 0, 4, 4] = 9.0
    assert torch.allclose(box_mean(spike, 3)[0, 0, 3:6, 3:6], torch.ones(3, 3))


def test_pictures_are_shrunk_but_never_enlarged():
    assert shrunk(torch.rand(1, 3, 100, 200), 50).shape == (1, 3, 50, 100)
    assert shrunk(torch.rand(1, 3, 40, 60), 50).shape == (1, 3, 40, 60)
    assert squared(torch.rand(1, 3, 40, 60), 64).shape == (1, 3, 64, 64)
