"""Windows, parts and symmetries are maps that can be joined and undone."""

import pytest
import torch

from steerclear.copy_detection.place import place_of
from steerclear.copy_detection.windows import (
    compose,
    inverse,
    native_scales,
    parts,
    sample,
    symmetries,
    windows,
)
from steerclear.types import Place


def test_a_map_and_its_inverse_cancel():
    maps = torch.cat(windows(64, 96))
    nothing = compose(maps, inverse(maps))
    assert torch.allclose(nothing, torch.eye(2, 3).expand_as(nothing), atol=1e-5)


def test_there_are_eight_symmetries_and_each_moves_the_picture_otherwise():
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    seen = sample(picture, symmetries(), 16)[0]
    assert torch.allclose(seen[0], picture[0], atol=1e-5)
    versions = {tuple(version.flatten().mul(1000).round().tolist()) for version in seen}
    assert len(versions) == 8
    assert any(torch.allclose(version, picture[0].flip(-1), atol=1e-5) for version in seen)
    assert any(torch.allclose(version, picture[0].rot90(1, (1, 2)), atol=1e-5) for version in seen)
    assert len(symmetries(mirrored=False, turned=False)) == 1


def test_upright_windows_lie_inside_the_picture():
    for maps in windows(64, 160, turns=(0.0,)):
        reach = maps[:, :, :2].abs().sum(2) + maps[:, :, 2].abs()
        assert float(reach.max()) <= 1 + 1e-5


def test_parts_are_the_whole_and_smaller_ones():
    assert parts().shape == (23, 2, 3)
    assert torch.equal(parts()[0], torch.eye(2, 3))


def test_a_larger_picture_has_windows_down_to_the_native_size():
    assert native_scales(64, 64, 64) == native_scales(64, 64, None)
    assert native_scales(512, 512, 64)[-1] == pytest.approx(64 / 512, rel=0.12)


def test_the_whole_picture_is_its_own_place():
    place = place_of(torch.eye(2, 3), 64, 128)
    assert place == Place((0.0, 0.0, 1.0, 1.0), scale=1.0, turn=0.0, mirrored=False)


def test_a_place_says_turn_and_mirror_as_they_look_in_a_long_picture():
    # a square of half the height, turned clockwise by 90°, in a picture twice as wide as high
    turned = torch.tensor([[0.0, -0.25, 0.5], [0.5, 0.0, 0.0]])
    place = place_of(turned, 64, 128)
    assert place.turn == 90
    assert not place.mirrored
    assert place.box == pytest.approx((0.625, 0.25, 0.875, 0.75))
    mirrored = place_of(turned * torch.tensor([-1.0, 1.0, 1.0]), 64, 128)
    assert mirrored.mirrored
    assert mirrored.turn == 90
