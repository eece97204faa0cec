"""A copy is found wherever it lies, with its place; what is no copy is clear; what cannot be looked at is
flagged.
"""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from steerclear.copy_detection import (
    CopyDetector,
    CopyFilter,
    Effort,
    ProtectedSide,
    SecondOpinion,
    Thresholds,
)
from steerclear.copy_detection.nominate import CELLS, describe, seen_through
from steerclear.copy_detection.nominate import look as original_look
from steerclear.copy_detection.windows import sample, symmetries, windows
from steerclear.embedded import PROTECTED_FOLDER
from steerclear.errors import InputError, LibraryError
from steerclear.filters.base import Filter, inspect
from steerclear.pixels import to_tensor

LION, CAT, ESPRESSO = "mascot-norvo", "photo-chelsea", "photo-espresso"


def read(file):
    return Image.open(file).convert("RGB")


def placed(picture, size, box, ground=(255, 255, 255)):
    """The picture in a box of a larger ground."""
    left, top, right, bottom = box
    out = Image.new("RGB", size, ground)
    out.paste(picture.resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
    return out


def cropped(picture, left, top, right, bottom):
    return picture.resize(picture.size, Image.Resampling.BICUBIC, box=(left, top, right, bottom))


def recoloured(picture, degrees):
    hsv = np.asarray(picture.convert("HSV")).copy()
    hsv[..., 0] = (hsv[..., 0].astype(int) + round(degrees / 360 * 256)) % 256
    return Image.fromarray(hsv, "HSV").convert("RGB")


def house(seed=0):
    """A plain drawing of nothing protected."""
    draw = np.random.default_rng(seed)
    pixels = np.full((64, 64, 3), 240, np.uint8)
    pixels[30:56, 12:52] = draw.integers(60, 200, 3)
    for row in range(18):
        pixels[12 + row, 31 - row : 33 + row] = (150, 50, 40)
    pixels[40:56, 28:36] = (80, 50, 20)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def pictures():
    return {file.stem: read(file) for file in sorted(PROTECTED_FOLDER.glob("*.png"))}


@pytest.fixture(scope="module")
def tensors(pictures):
    return {name: to_tensor([picture])[0] for name, picture in pictures.items()}


@pytest.fixture(scope="module")
def copy_filter(tensors):
    """Without a second opinion, so that the tests say what torch alone can do."""
    return CopyFilter.of(tensors, opinion=None)


def best(copy_filter, picture):
    return copy_filter.look(to_tensor([picture]))[0][0]


def test_is_a_filter_that_compares_with_the_library(copy_filter):
    assert isinstance(copy_filter, Filter)
    assert copy_filter.cost == "library"


@pytest.mark.parametrize("name", [LION, CAT, ESPRESSO])
def test_a_mirrored_copy_is_found_and_said_to_be_mirrored(copy_filter, pictures, name):
    match = best(copy_filter, pictures[name].transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert match.id == name
    assert match.score >= 1
    assert match.place.mirrored
    assert abs(match.place.turn) < 3


def test_a_copy_turned_a_quarter_is_found_and_its_turn_is_said(copy_filter, pictures):
    match = best(copy_filter, pictures[LION].transpose(Image.Transpose.ROTATE_270))  # clockwise by 90°
    assert match.id == LION
    assert match.score >= 1
    assert match.place.turn == pytest.approx(90, abs=3)
    assert not match.place.mirrored


@pytest.mark.parametrize("name", [LION, CAT, ESPRESSO])
def test_a_cropped_copy_is_found_and_is_larger_than_the_picture(copy_filter, pictures, name):
    match = best(copy_filter, cropped(pictures[name], left=0, top=0, right=48, bottom=48))
    assert match.id == name
    assert match.score >= 1
    assert match.place.scale == pytest.approx(64 / 48, rel=0.05)


@pytest.mark.parametrize("name", [LION, CAT])
def test_a_shrunken_copy_is_found_where_it_lies(copy_filter, pictures, name):
    match = best(
        copy_filter, placed(pictures[name], size=(64, 64), box=(16, 4, 58, 46), ground=(200, 215, 205))
    )
    assert match.id == name
    assert match.score >= 1
    assert match.place.box == pytest.approx((16 / 64, 4 / 64, 58 / 64, 46 / 64), abs=0.04)


def test_one_of_two_copies_side_by_side_is_found_in_a_picture_twice_as_wide(copy_filter, pictures):
    wide = placed(pictures[CAT], (128, 64), (64, 0, 128, 64))
    wide.paste(house(), (0, 0))
    match = best(copy_filter, wide)
    assert match.id == CAT
    assert match.score >= 1
    assert match.place.box == pytest.approx((0.5, 0, 1, 1), abs=0.03)


def test_a_tiled_copy_is_found(copy_filter, pictures):
    tiles = Image.new("RGB", (64, 64))
    for left, top in ((0, 0), (32, 0), (0, 32), (32, 32)):
        tiles.paste(pictures[LION].resize((32, 32), Image.Resampling.LANCZOS), (left, top))
    match = best(copy_filter, tiles)
    assert match.id == LION
    assert match.score >= 1
    assert match.place.scale == pytest.approx(0.5, rel=0.06)


@pytest.mark.parametrize("degrees", [60, 120, 180])
@pytest.mark.parametrize("name", [LION, CAT])
def test_a_copy_in_other_colours_is_found(copy_filter, pictures, name, degrees):
    match = best(copy_filter, recoloured(pictures[name], degrees))
    assert match.id == name
    assert match.score >= 1


def test_a_copy_in_one_corner_of_a_large_picture_is_found_at_the_native_size(copy_filter, pictures):
    large = placed(pictures[LION], size=(256, 256), box=(180, 20, 244, 84), ground=(250, 250, 250))
    large.paste(house().resize((128, 128)), (10, 110))
    match = best(CopyFilter(CopyDetector(copy_filter.detector.side, opinion=None, native=64)), large)
    assert match.id == LION
    assert match.score >= 1
    assert match.place.box == pytest.approx((180 / 256, 20 / 256, 244 / 256, 84 / 256), abs=0.02)


@pytest.mark.parametrize("symmetry", list(symmetries()))
def test_a_described_window_seen_through_a_symmetry_is_the_window_of_the_picture_seen_so(tensors, symmetry):
    whole = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    picture = tensors[LION][None]
    turned = sample(picture, symmetry[None], 64)[:, 0]
    described, _ = describe(picture, whole)
    expected, _ = describe(turned, whole)
    rim = (slice(None), 0, slice(None), slice(1, CELLS - 1), slice(1, CELLS - 1))
    assert torch.allclose(seen_through(described, symmetry)[rim], expected[rim], atol=0.02)


def test_several_filters_that_share_a_detector_look_at_a_picture_once(copy_filter, pictures, monkeypatch):
    detector = CopyDetector(copy_filter.detector.side, opinion=None)
    looked = []
    monkeypatch.setattr(
        "steerclear.copy_detection.detector.look",
        lambda batch, **rest: (looked.append(len(batch)), original_look(batch, **rest))[1],
    )
    images = to_tensor([pictures[LION], house(), pictures[LION]])
    plain = CopyFilter(detector).check(images)
    strict = CopyFilter(detector, 0.5, "strict copy").check(images)
    assert sum(looked) == 2
    assert [d.score for d in plain] == [d.score for d in strict]
    assert plain[0].score == plain[2].score


def test_windows_cover_a_picture_that_is_not_square():
    reached = torch.cat(windows(64, 192))
    at = reached[:, 0, 2]
    assert float(at.min()) < -0.6
    assert float(at.max()) > 0.6
    assert len(reached) > 2 * len(torch.cat(windows(64, 64)))


def test_a_blank_picture_matches_nothing(copy_filter):
    for grey in (0.0, 0.5, 1.0):
        assert copy_filter.look(torch.full((1, 3, 64, 64), grey)) == [[]]
        assert not copy_filter.check(torch.full((1, 3, 64, 64), grey))[0].flagged


def test_another_drawing_is_clear(copy_filter):
    detections = copy_filter.check(to_tensor([house(0), house(1)]))
    assert [d.flagged for d in detections] == [False, False]
    assert all(math.isfinite(d.score) for d in detections)


def test_a_copy_is_flagged_with_the_item_that_it_shows(copy_filter, pictures):
    detection = inspect([copy_filter], [pictures[LION].transpose(Image.Transpose.FLIP_LEFT_RIGHT)])[0][0]
    assert detection.flagged
    assert detection.matched == LION


def test_what_else_is_in_the_batch_does_not_change_a_score(copy_filter, pictures):
    some = [pictures[LION], house(), pictures[CAT].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    together = [d.score for d in copy_filter.check(to_tensor(some))]
    alone = [copy_filter.check(to_tensor([picture]))[0].score for picture in some]
    assert together == pytest.approx(alone, abs=1e-3)


def test_half_precision_is_looked_at_as_well(copy_filter, pictures):
    images = to_tensor([pictures[LION]]).half()
    assert copy_filter.check(images)[0].matched == LION
    assert copy_filter.check(images)[0].score == pytest.approx(
        copy_filter.check(images.float())[0].score, abs=0.02
    )


@pytest.mark.parametrize("fault", [math.nan, math.inf, 255.0])
def test_pixels_that_are_no_picture_flag_their_image_alone(copy_filter, pictures, fault):
    images = to_tensor([house(), house()])
    images[1, 0, 3, 3] = fault
    clear, flagged = copy_filter.check(images)
    assert not clear.flagged
    assert flagged.flagged
    assert "image 1" in flagged.error
    with pytest.raises(InputError):
        copy_filter.look(images)


@pytest.mark.parametrize("pixels", [torch.zeros(3, 64, 64), torch.full((3, 40, 70), 0.7)])
def test_a_blank_protected_picture_is_refused_with_its_reason(tensors, pixels):
    with pytest.raises(LibraryError, match=r"'empty'.*blank"):
        CopyFilter.of({**tensors, "empty": pixels})


def test_a_blank_protected_picture_can_be_left_out_and_is_named(tensors):
    some = {LION: tensors[LION], "empty": torch.ones(3, 64, 64)}
    side = CopyFilter.of(some, skip_blank=True).detector.side
    assert side.ids == (LION,)
    assert "blank" in side.unseen["empty"]


def test_an_eye_without_any_picture_is_refused():
    with pytest.raises(LibraryError):
        CopyFilter.of({})


def test_mirror_images_are_not_looked_for_where_they_may_be_shown(tensors, pictures):
    upright = CopyFilter.of(tensors, mirrored=False, turned=False, opinion=None)
    assert not upright.check(to_tensor([pictures[CAT].transpose(Image.Transpose.ROTATE_90)]))[0].flagged
    assert upright.check(to_tensor([pictures[CAT]]))[0].flagged


def test_a_stricter_threshold_flags_more(copy_filter, tensors, pictures):
    images = to_tensor([pictures[LION]])
    score = copy_filter.check(images)[0].score
    assert score > 1
    assert CopyFilter(copy_filter.detector, threshold=score).check(images)[0].flagged
    assert not CopyFilter(copy_filter.detector, threshold=score + 0.001).check(images)[0].flagged
    never = CopyFilter.of(tensors, thresholds=Thresholds(2.0, 2.0, sameness=2.0), opinion=None)
    assert not never.check(to_tensor([pictures[LION]]))[0].flagged


def test_a_larger_library_is_looked_at_harder():
    assert Effort.for_library(24).items == Effort().items
    assert Effort.for_library(10_000).items > Effort.for_library(1_000).items > Effort().items


def test_local_features_find_a_copy_under_two_lines_of_text(copy_filter, pictures):
    from steerclear.copy_detection.alterations import _lettered

    covered = [_lettered(2)(pictures[name]) for name in (CAT, ESPRESSO, "photo-astronaut")]
    with_features = CopyFilter(CopyDetector(copy_filter.detector.side, opinion=SecondOpinion()))
    matches = [best(with_features, picture) for picture in covered]
    assert [m.id for m in matches] == [CAT, ESPRESSO, "photo-astronaut"]
    assert all(m.score >= 1 for m in matches)


@pytest.mark.parametrize("size", [(1, 1), (1, 16), (5, 40), (1500, 1500), (1600, 100)])
def test_a_picture_of_any_size_is_looked_at(copy_filter, size):
    pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    (detection,) = copy_filter.check(pixels)
    assert detection.error is None
    assert math.isfinite(detection.score)


@pytest.mark.parametrize("size", [(1, 500), (5000, 20)])
def test_a_picture_that_is_too_long_to_be_looked_at_everywhere_is_flagged_with_the_reason(copy_filter, size):
    (detection,) = copy_filter.check(torch.full((1, 3, *size), 0.5))
    assert detection.flagged
    assert "16 times as long as wide" in detection.error


def test_a_detector_can_be_copied_and_pickled(tensors, pictures):
    detector = CopyFilter.of({CAT: tensors[CAT]}).detector
    images = to_tensor([pictures[CAT]])
    for again in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        assert again.look(images)[0][0].id == CAT


def test_a_side_with_nothing_to_recognise_makes_no_detector(tensors):
    noise = torch.ones(3, 64, 64)
    with pytest.raises(LibraryError, match="none of the 1 protected pictures"):
        CopyFilter.of({"noise": noise}, skip_blank=True)
    parts = [
        CopyFilter.of({CAT: tensors[CAT]}).detector.side,
        ProtectedSide.of({"n": noise}, skip_blank=True),
    ]
    assert (ProtectedSide.joined(parts).ids, set(ProtectedSide.joined(parts).unseen)) == ((CAT,), {"n"})


def test_a_copy_in_a_large_picture_is_found_where_it_lies(copy_filter, pictures):
    large = placed(pictures[CAT], size=(1600, 1200), box=(100, 200, 900, 1000), ground=(90, 120, 150))
    match = best(copy_filter, large)
    assert (match.id, match.score > 1) == (CAT, True)
    assert match.place.box == pytest.approx((100 / 1600, 200 / 1200, 900 / 1600, 1000 / 1200), abs=0.02)
