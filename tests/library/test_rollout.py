"""Items that are enforced for a share of the seeds alone, as the library keeps them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from steerclear import Library
from steerclear.embedded import LIBRARY_FOLDER
from steerclear.errors import InputError, LibraryError
from steerclear.library import add
from steerclear.library.rollout import NotesVersion, Selection, Share, drawn, set_share, shares
from steerclear.testing import FakeEncoder

ENCODER = FakeEncoder(name="tiny")


@pytest.fixture
def folder(tmp_path):
    """Three pictures."""
    (tmp_path / "pictures").mkdir()
    for i, name in enumerate(("cat", "fox", "owl")):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{name}.png")
    return tmp_path / "pictures"


@pytest.fixture
def library(folder, tmp_path):
    library = Library.create(tmp_path / "library", [ENCODER])
    add(library, folder, [ENCODER])
    return library


def test_every_item_is_enforced_at_first(library):
    assert shares(library) == []


def test_a_share_is_kept_until_it_is_whole_again(library):
    set_share(library, "fox", percent=25, why="new")
    set_share(library, "owl", percent=0, why="a flood")
    assert [(s.item, s.percent, s.why) for s in shares(Library.open(library.uri))] == [
        ("fox", 25.0, "new"),
        ("owl", 0.0, "a flood"),
    ]
    set_share(library, "owl", percent=100, why="")
    assert [s.item for s in shares(library)] == ["fox"]


def test_the_same_seeds_are_enforced_everywhere_and_as_many_as_was_said(library):
    share = set_share(library, "fox", percent=30, why="new")
    enforced = [share.enforced(seed) for seed in range(4000)]
    assert 0.27 < sum(enforced) / len(enforced) < 0.33
    assert drawn("fox", 7) == pytest.approx(79.2908, abs=1e-4)  # a change would move pictures between shares
    wider = Share("fox", percent=60, why="", since=share.since)
    assert all(wider.enforced(seed) for seed in range(4000) if enforced[seed])
    assert not any(Share("fox", percent=0, why="", since=share.since).enforced(seed) for seed in range(200))


def test_another_picture_that_gets_the_id_is_enforced(library, folder):
    set_share(library, "fox", percent=0, why="a flood")
    library.remove(["fox"])
    Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 50).convert("RGB").save(folder / "fox.png")
    add(library, folder / "fox.png", [ENCODER])
    assert "fox" in library.ids()
    assert shares(library) == []


def test_what_makes_no_sense_is_refused(library):
    for percent in (-1, 101, float("nan")):
        with pytest.raises(InputError, match="give one from 0 to 100"):
            set_share(library, "fox", percent=percent, why="x")
    with pytest.raises(InputError, match="say why"):
        set_share(library, "fox", percent=0, why=" ")
    with pytest.raises(LibraryError, match="no item 'dog'"):
        set_share(library, "dog", percent=0, why="x")
    with pytest.raises(LibraryError, match="embedded library cannot be changed"):
        set_share(Library.open(LIBRARY_FOLDER), "x", percent=0, why="x")
    set_share(library, "fox", percent=0, why="x")
    set_share(library, "owl", percent=50, why="x")
    with pytest.raises(LibraryError, match="leave one enforced"):
        set_share(library, "cat", percent=99, why="x")
    assert len(shares(library)) == 2


def test_a_damaged_share_is_refused_and_not_read_as_another_one(library):
    share = set_share(library, "fox", percent=50, why="x")
    note = library.read_note("share of fox")
    for broken in ({**note, "percent": "many"}, {**note, "percent": 200}, {"sha256": note["sha256"]}):
        library.write_note(f"share of {share.item}", broken)
        with pytest.raises(LibraryError, match="is damaged"):
            shares(library)


def test_a_selection_reads_as_a_library_of_its_items(library):
    some = Selection(library, without=["fox"])
    assert some.ids() == ["cat", "owl"]
    assert len(some) == 2
    assert list(some.pictures()) == ["cat", "owl"]
    assert some.thumbnails()[1].shape[0] == 2
    assert len(some.index(ENCODER.name)) == 2
    assert set(some.hashes()) < set(library.hashes())
    only = Selection(library, only=["fox"])
    assert [item.id for item in only.items()] == ["fox"]
    with pytest.raises(LibraryError, match="no item 'cat'"):
        only.get("cat")


def test_every_note_raises_the_version_of_the_notes(library):
    version = NotesVersion(library.uri)
    assert version.read() == 0
    for number in range(3):
        before = version.read()
        library.write_note("x", {"number": number})
        assert version.read() > before
