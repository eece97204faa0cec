"""What the filters see of altered copies is counted kind by kind, and what they are blind to is said."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from steerclear.calibrate import (
    AlteredCopy,
    altered_copies,
    blind_to,
    by_alteration,
    mostly_missed,
    protected_pictures,
)
from steerclear.embedded import PROTECTED_FOLDER
from steerclear.filters import PixelFilter
from steerclear.filters.pixel import AllPictures
from steerclear.library import Library, add
from steerclear.pixels import to_tensor
from steerclear.testing import FakeEncoder

THRESHOLDS = {"pixel": 0.9, "copy": 1.0}


def copy(kind, strength="mild", pixel=0.0, copies=0.0):
    return AlteredCopy("fox", kind=kind, strength=strength, scores={"pixel": pixel, "copy": copies})


@pytest.fixture
def library(tmp_path):
    """A library of five pictures 160 pixels wide and 80 high."""
    for name in ("acme", "norvo", "harvix", "kestro", "brim"):
        files = sorted(PROTECTED_FOLDER.glob("mascot-*.png"))
        with Image.open(files[len(name) % len(files)]) as drawing:
            wide = Image.new("RGB", (160, 80), "white")
            wide.paste(drawing.convert("RGB"), (len(name), ord(name[0]) % 16))
            wide.save(tmp_path / f"{name}.png")
    encoder = FakeEncoder(name="descriptor")
    library = Library.create(tmp_path / "library", [encoder])
    add(library, [tmp_path], [encoder])
    return library


def test_a_kind_counts_what_any_filter_flags_and_what_each_flags_alone():
    copies = [
        copy("text", pixel=0.95),
        copy("text", copies=1.2),
        copy("text", "strong"),
        copy("grey", pixel=0.9),
    ]
    table = by_alteration(copies, THRESHOLDS)
    assert table["text"] == {
        "copies": 3,
        "flagged": 2,
        "by_filter": {"pixel": 1, "copy": 1},
        "strengths": {"mild": {"copies": 2, "flagged": 2}, "strong": {"copies": 1, "flagged": 0}},
    }
    assert table["grey"]["flagged"] == 1


def test_filters_are_blind_to_a_kind_of_which_they_miss_more_than_a_tenth():
    copies = [copy("half", copies=float(i < 5)) for i in range(10)]
    copies += [copy("most", copies=float(i < 9)) for i in range(10)]
    copies += [copy("none") for _ in range(10)]
    assert blind_to(by_alteration(copies, THRESHOLDS)) == {"none": 0.0, "half": 0.5}


def test_pictures_whose_altered_copies_are_mostly_missed_are_named_the_worst_first():
    def copies_of(item, caught, count=10):
        return [
            AlteredCopy(item, kind="mirror", strength="mild", scores={"copy": float(i < caught)})
            for i in range(count)
        ]

    scored = [*copies_of("fox", 9), *copies_of("stripes", 4), *copies_of("flag", 0), *copies_of("half", 5)]
    assert mostly_missed(scored, {"copy": 1.0}) == {"flag": 0.0, "stripes": 0.4}


def test_every_kind_is_tried_at_both_ends_of_its_strengths():
    picture = Image.open(PROTECTED_FOLDER / "mascot-acme.png").convert("RGB")
    pixel = PixelFilter(AllPictures(("acme",), to_tensor([picture])))
    copies = list(altered_copies([pixel], [("acme", picture)], [Image.new("RGB", (64, 64), "green")]))
    strengths = {kind: [c.strength for c in copies if c.kind == kind] for kind in (c.kind for c in copies)}
    assert strengths["gamma"] == ["0.4", "3.0"]
    assert strengths["mirror"] == ["mirror"]
    assert {"crop, centre", "canvas", "border", "hue", "text", "black ground", "collage of two"} < set(
        strengths
    )
    flagged = by_alteration(copies, {"pixel": 0.9})
    assert flagged["jpeg"]["flagged"] == 2
    assert flagged["negative"]["flagged"] == 0


def test_protected_pictures_are_read_from_their_files_in_their_own_shape(library):
    pictures = dict(protected_pictures(library, 200))
    assert {picture.size for picture in pictures.values()} == {(160, 80)}
    assert len(pictures) == len(library)


def test_where_a_file_is_gone_the_thumbnail_stands_for_it(library, tmp_path):
    (tmp_path / "brim.png").unlink()
    pictures = dict(protected_pictures(library, 200))
    assert pictures["brim"].size == (64, 64)
    assert torch.allclose(to_tensor([pictures["brim"]])[0], library.pictures()["brim"])


def test_of_a_large_library_some_pictures_are_taken_in_even_steps(library):
    ids = [item.id for item in library.items()]
    assert [item for item, _ in protected_pictures(library, 2)] == [ids[0], ids[len(ids) // 2]]
