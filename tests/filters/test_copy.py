"""The copy detector over a library: described once, kept there, as sharp as the files allow."""

from __future__ import annotations

import shutil

import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

from steerclear.copy_detection import CopyFilter
from steerclear.embedded import PROTECTED_FOLDER
from steerclear.filters import copy as copies
from steerclear.filters import inspect
from steerclear.filters.copy import IndexedCopyDetector, copy_detector, original_pixels
from steerclear.filters.library import FilterParts, named_filters
from steerclear.library import Library, add
from steerclear.pixels import to_tensor
from steerclear.testing import FakeEncoder

NAMES = ("mascot-acme", "photo-chelsea")


@pytest.fixture
def files(tmp_path):
    """The protected pictures, four times as large as a thumbnail."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in NAMES:
        picture = Image.open(PROTECTED_FOLDER / f"{name}.png").convert("RGB")
        picture.resize((256, 256), Image.Resampling.LANCZOS).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def library(files, tmp_path):
    library = Library.create(tmp_path / "library", [FakeEncoder()])
    add(library, [files], [FakeEncoder()])
    return library


def mirrored(name):
    return to_tensor([ImageOps.mirror(Image.open(PROTECTED_FOLDER / f"{name}.png").convert("RGB"))])


def test_a_mirrored_copy_of_an_item_is_found(library):
    for name in NAMES:
        match = copy_detector(library).look(mirrored(name))[0][0]
        assert (match.id, match.score > 1) == (name, True)


def test_what_is_described_is_kept_in_the_library_and_the_same_when_it_is_read(library, files, monkeypatch):
    first = copy_detector(library).side
    described = []
    describe = copies.ProtectedSide.of
    monkeypatch.setattr(
        copies.ProtectedSide,
        "of",
        lambda pictures, known, **rest: (
            described.append(sorted(set(pictures) - set(known))),
            describe(pictures, known=known, **rest),
        )[1],
    )
    again = copy_detector(Library.open(library.uri)).side
    assert described == [[]]
    assert torch.equal(again.sought, first.sought)
    assert again.ids == first.ids
    shutil.copy(PROTECTED_FOLDER / "photo-espresso.png", files)
    add(library, [files], [FakeEncoder()])
    assert set(copy_detector(library).side.ids) == {*NAMES, "photo-espresso"}
    assert described[1:] == [["photo-espresso"]]


def test_a_library_that_cannot_be_written_to_is_described_all_the_same(library, monkeypatch):
    def refuse(*arguments):
        raise copies.LibraryError("read only")

    monkeypatch.setattr(copies.LatentCache, "write", refuse)
    assert len(copy_detector(library).side) == len(NAMES)


def test_an_original_is_read_while_it_is_there(library, files):
    assert original_pixels(library, "photo-chelsea").shape == (3, 256, 256)
    (files / "photo-chelsea.png").unlink()
    assert original_pixels(library, "photo-chelsea") is None
    assert original_pixels(library, "mascot-acme").shape == (3, 256, 256)


def test_what_the_detector_keeps_of_a_picture_is_its_thumbnail_to_the_pixel(library):
    side, thumbnails = copy_detector(library).side, library.pictures()
    for row, item in enumerate(side.ids):
        assert torch.equal(side.pixels(torch.tensor([row]))[0], thumbnails[item])


def test_plain_and_strict_filters_share_the_detector(library):
    parts = FilterParts(library, [FakeEncoder()])
    (plain,), (strict,) = named_filters("copy", parts), named_filters("copy", parts.strict({}))
    assert plain.detector is strict.detector
    assert (plain.name, strict.name) == ("copy", "strict copy")
    assert strict.threshold < plain.threshold == 1


def test_a_copy_much_smaller_than_a_quarter_is_found_where_the_pipeline_draws_that_small(library):
    large = Image.new("RGB", (320, 320), "#f4f4f4")
    draw = ImageDraw.Draw(large)
    draw.ellipse((20, 180, 140, 300), fill="#5577aa")
    draw.rectangle((180, 200, 300, 280), fill="#aa7755")
    large.paste(Image.open(PROTECTED_FOLDER / "photo-chelsea.png").convert("RGB"), (230, 20))
    match = copy_detector(library, native=64).look(to_tensor([large]))[0][0]
    assert (match.id, match.score > 1) == ("photo-chelsea", True)
    assert match.place.box == pytest.approx((230 / 320, 20 / 320, 294 / 320, 84 / 320), abs=0.03)


def test_a_library_that_is_too_large_to_hold_is_looked_at_by_its_nearest_items(library, monkeypatch):
    monkeypatch.setattr("steerclear.filters.library.IN_MEMORY", 1)
    parts = FilterParts(library, [FakeEncoder()])
    (plain,), (strict,) = named_filters("copy", parts), named_filters("copy", parts.strict({}))
    assert isinstance(plain.detector, IndexedCopyDetector)
    for name in NAMES:
        (detection,) = plain.check(mirrored(name))
        assert (detection.flagged, detection.matched) == (True, name)
        assert strict.check(mirrored(name))[0].flagged
    assert not plain.check(torch.full((1, 3, 64, 64), 0.5))[0].flagged


def test_what_no_encoder_can_judge_is_flagged_also_in_a_library_that_is_too_large_to_hold(library):
    class Broken(FakeEncoder):
        def __call__(self, images):
            return super().__call__(images) * torch.nan

    detector = IndexedCopyDetector(library, Broken(), library.index("fake"))
    (row,) = inspect([CopyFilter(detector)], [Image.open(PROTECTED_FOLDER / "photo-chelsea.png")])
    assert row[0].flagged
    assert "NaN" in row[0].error


def test_a_flag_is_found_resized_in_libraries_of_either_size(library, files, monkeypatch):
    flag = Image.new("RGB", (240, 160), "white")
    flag.paste((206, 17, 38), (0, 80, 240, 160))
    flag.save(files / "poland.png")
    add(library, [files], [FakeEncoder()])
    images = to_tensor([flag.resize((120, 80))])
    for most in (20_000, 1):
        monkeypatch.setattr("steerclear.filters.library.IN_MEMORY", most)
        (copy_filter,) = named_filters("copy", FilterParts(library, [FakeEncoder()]))
        (detection,) = copy_filter.check(images)
        assert (detection.flagged, detection.matched) == (True, "poland")
