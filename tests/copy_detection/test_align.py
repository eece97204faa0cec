"""A placement that is off moves to where the protected picture lies."""

import pytest
import torch
from PIL import Image

from steerclear.copy_detection.align import SIDE, align_coarsely, align_finely, cut_patches, levels
from steerclear.copy_detection.decide import agreement, straightness
from steerclear.copy_detection.features import orientation_maps
from steerclear.embedded import PROTECTED_FOLDER
from steerclear.pixels import to_tensor


@pytest.fixture(scope="module")
def picture():
    return to_tensor([Image.open(PROTECTED_FOLDER / "photo-chelsea.png").convert("RGB")])


@pytest.mark.parametrize(
    "guess",
    [
        [[1.0, 0.0, 0.12], [0.0, 1.0, -0.1]],
        [[1.12, 0.0, 0.0], [0.0, 1.12, 0.05]],
        [[0.98, -0.15, 0.0], [0.15, 0.98, 0.0]],
    ],
)
def test_a_shifted_larger_or_turned_guess_is_put_right(picture, guess):
    guesses = torch.tensor([guess])
    pyramid = levels(picture[0])
    moved = align_finely(pyramid, picture, align_coarsely(pyramid, picture, guesses)[0])
    assert moved[0].flatten().tolist() == pytest.approx(torch.eye(2, 3).flatten().tolist(), abs=0.03)


def test_a_better_guess_agrees_better(picture):
    far = torch.tensor([[0.3, 0.0, 0.7], [0.0, 0.3, 0.7]])
    near = torch.tensor([[1.0, 0.0, 0.06], [0.0, 1.0, 0.0]])
    targets = picture.expand(2, -1, -1, -1)
    _, agreeing = align_coarsely(levels(picture[0]), targets, torch.stack([far, near]))
    assert agreeing[1] > 0.95 > agreeing[0]


def test_a_picture_agrees_with_itself_and_with_its_negative_in_edges_only(picture):
    seen = cut_patches(levels(picture[0]), torch.eye(2, 3)[None], SIDE)
    orientation, soft = agreement(seen, picture)
    assert float(orientation) > 0.99
    assert float(soft) > 0.99
    orientation, soft = agreement(seen, 1 - picture)
    assert float(orientation) > 0.85
    assert float(soft) == 0


def test_lines_of_one_direction_are_trusted_less_than_a_picture(picture):
    bar = torch.full((1, 3, SIDE, SIDE), 0.9)
    bar[..., 24:40, :] = 0.2
    straight, mixed = (straightness(orientation_maps(pixels)[0]) for pixels in (bar, picture))
    assert float(straight) > 0.95
    assert float(mixed) < 0.2
    seen = cut_patches(levels(bar[0]), torch.eye(2, 3)[None], SIDE)
    assert float(agreement(seen, bar)[0]) < 0.8  # as like as can be, and yet it might be any bar
