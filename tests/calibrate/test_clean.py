"""Clean pictures give the thresholds; copies among them are left out and named."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from steerclear.calibrate import Clean, Picture, scores
from steerclear.copy_detection import CopyFilter
from steerclear.embedded import PROTECTED_FOLDER
from steerclear.errors import InputError
from steerclear.filters import CustomFilter
from steerclear.pixels import to_tensor

LION = "mascot-norvo"


def protected(name):
    return Image.open(PROTECTED_FOLDER / f"{name}.png").convert("RGB")


def ordinary(seed):
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Picture(Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8))), f"clean/{seed}.png")


@pytest.fixture(scope="module")
def filters():
    pictures = {n: to_tensor([protected(n)])[0] for n in (LION, "mascot-harvix", "mascot-kestro")}
    brightness = CustomFilter("brightness", lambda images: images.mean(dim=(1, 2, 3)), threshold=0.9)
    return [CopyFilter.of(pictures), brightness]


def test_a_copy_among_the_clean_pictures_is_left_out_of_every_filters_scores_and_named(filters):
    mirrored = Picture(ImageOps.mirror(protected(LION)), "clean/lion.png")
    clean = Clean.of(filters, [ordinary(0), mirrored, ordinary(1)])
    assert clean.scores == Clean.of(filters, [ordinary(0), ordinary(1)]).scores
    assert clean.left_out == 1
    [copy] = clean.likely_copies
    assert (copy.picture.origin, copy.matched) == ("clean/lion.png", LION)
    assert copy.agreement > 0.95


def test_all_likely_copies_are_counted_but_few_are_kept(filters):
    copies = [Picture(protected(LION), f"{i}.png") for i in range(12)]
    clean = Clean.of(filters, [*copies, ordinary(0)])
    assert clean.left_out == 12
    assert [copy.picture.origin for copy in clean.likely_copies] == [f"{i}.png" for i in range(10)]


def test_nothing_is_calibrated_on_copies_alone(filters):
    with pytest.raises(InputError, match=r"all 1 clean pictures .* lion\.png of 'mascot-norvo'"):
        Clean.of(filters, [Picture(protected(LION), "lion.png")])


def test_what_stands_beside_a_copy_is_flagged_by_nothing(filters):
    clean = Clean.of(filters, [ordinary(seed) for seed in range(4)])
    brightest = max(clean.scores["brightness"])
    assert len(clean.neighbours({"copy": 1.0, "brightness": brightest})) == 3
    assert len(clean.neighbours({"copy": 1.0, "brightness": 1.1})) == 4


def test_a_filter_that_fails_is_named_with_the_picture():
    def broken(images):
        raise ValueError("no weights")

    with pytest.raises(
        InputError, match=r"'broken' cannot be calibrated: it failed on clean/0\.png: .*no we"
    ):
        scores([CustomFilter("broken", broken, threshold=0.5)], [ordinary(0)])


def test_a_picture_that_a_reviewer_has_overruled_counts_even_where_it_looks_like_a_copy(filters):
    mirrored = Picture(ImageOps.mirror(protected(LION)), "negatives/lion.png")
    clean = Clean.of(filters, [ordinary(0), ordinary(1)], [mirrored])
    assert (clean.left_out, clean.overruled) == (0, 1)
    assert len(clean.first) == 2  # it stands beside no copy
    assert clean.scores["copy"][-1] > 1
    assert clean.overruled_flagged({"copy": 1.0}) == 1
    assert clean.overruled_flagged({"copy": clean.scores["copy"][-1] + 1e-6}) == 0
