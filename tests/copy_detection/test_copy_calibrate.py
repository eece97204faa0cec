"""Thresholds come from ordinary pictures, not below a floor; copies among these are left out and named."""

import dataclasses

import pytest
import torch
from PIL import Image

from steerclear.copy_detection import CopyFilter, Evidence, Match
from steerclear.copy_detection.calibrate import FLOORS, calibrate
from steerclear.embedded import PROTECTED_FOLDER
from steerclear.errors import InputError
from steerclear.pixels import to_tensor


@dataclasses.dataclass(frozen=True)
class Told:
    """An copy_filter that sees in each picture what its red value says."""

    threshold: float = 1.0

    def look(self, images):
        return [[Match("fox", 0.0, None, Evidence(float(i[0].mean()), 0.1))] for i in images]


def shades(*values):
    return [torch.full((3, 8, 8), value) for value in values]


def test_the_thresholds_lie_just_above_what_ordinary_pictures_reach():
    result = calibrate(Told(), shades(*[0.3] * 99, 0.9), share=1.0)
    assert result.thresholds.orientation == pytest.approx(0.9)
    assert result.flagged == 0
    assert result.pictures == 100


def test_a_threshold_is_never_below_its_floor():
    result = calibrate(Told(), shades(0.1, 0.2, 0.3))
    assert result.thresholds == FLOORS


def test_a_rare_ordinary_picture_may_be_flagged():
    result = calibrate(Told(), shades(*[0.3] * 999, 0.92), share=0.998)
    assert result.thresholds.orientation == FLOORS.orientation
    assert result.flagged == 1


def test_a_copy_among_the_ordinary_pictures_is_left_out_and_named():
    files = [PROTECTED_FOLDER / f"mascot-{name}.png" for name in ("norvo", "harvix", "kestro")]
    pictures = {file.stem: to_tensor([Image.open(file).convert("RGB")])[0] for file in files}
    copy_filter = dataclasses.replace(CopyFilter.of(pictures), opinion=None)
    stripes = torch.zeros(3, 64, 64)
    stripes[:, ::8] = 1
    result = calibrate(copy_filter, [stripes, pictures["mascot-norvo"].flip(-1)])
    assert result.pictures == 1
    [(number, item, orientation)] = result.copies
    assert (number, item) == (1, "mascot-norvo")
    assert orientation > 0.95


def test_no_picture_is_no_calibration():
    with pytest.raises(InputError):
        calibrate(Told(), [])
