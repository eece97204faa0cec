"""What an image processor's settings say of a model's input."""

from __future__ import annotations

import pytest
import torch

from steerclear.pixels import normalised, processor_side


@pytest.mark.parametrize(
    ("settings", "side"),
    [
        ({"size": 224}, 224),
        ({"size": {"height": 384, "width": 384}}, 384),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, 224),
        ({"size": None, "crop_size": None}, 32),
        ({}, 32),
    ],
)
def test_a_model_looks_at_the_crop_or_at_the_size_or_at_its_own(settings, side):
    assert processor_side(settings, 32) == side


def test_each_channel_is_normalised_by_its_own_mean_and_deviation():
    images = torch.tensor([0.2, 0.5, 0.8]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    output = normalised(images, mean=(0.2, 0.0, 0.4), std=(1.0, 0.5, 0.25))
    expected = torch.tensor([0.0, 1.0, 1.6]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    torch.testing.assert_close(output, expected)
