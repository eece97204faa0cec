"""Thumbnails of a library too large to hold: the same pictures, read when they are asked for, and filters that agree."""

from __future__ import annotations

import pytest
import torch
from library_doubles import write_pictures

from steerclear.filters.pixel import AllPictures, NearestPictures, PixelFilter, TiledFilter
from steerclear.library import Index, add, store
from steerclear.library.pictures import Pictures


def test_pictures_that_are_read_one_by_one_are_those_of_the_whole(library):
    whole = dict(zip(*library.thumbnails(), strict=True))
    lazily = Pictures(library)
    assert list(lazily) == list(whole)
    assert len(lazily) == 5
    assert all(torch.equal(lazily[item], pixels) for item, pixels in whole.items())
    assert "nobody" not in lazily
    with pytest.raises(KeyError):
        lazily["nobody"]


def test_only_a_large_library_reads_them_one_by_one(library, monkeypatch):
    assert isinstance(library.pictures(), dict)
    monkeypatch.setattr(store, "IN_MEMORY", 4)
    assert isinstance(library.pictures(), Pictures)


def test_a_pixel_filter_over_the_nearest_alone_says_the_same_of_a_copy(library, encoder):
    ids, thumbnails = library.thumbnails()
    nominated = NearestPictures(encoder, Index.of(library, encoder.name), Pictures(library), count=2)
    copies = (
        thumbnails + 0.02 * torch.randn(thumbnails.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 1)
    for kind in (PixelFilter, TiledFilter):
        everything = kind(AllPictures(tuple(ids), thumbnails)).check(copies)
        near = kind(nominated).check(copies)
        assert [d.matched for d in near] == ids
        assert [d.flagged for d in near] == [d.flagged for d in everything] == [True] * 5
        assert [d.score for d in near] == pytest.approx([d.score for d in everything])


def test_ids_may_be_asked_for_by_policy(library, encoder, tmp_path):
    ids = library.ids()
    assert ids == [i.id for i in library.items()]
    assert (library.ids("withhold"), library.ids("steer")) == ([], ids)
    report = add(library, write_pictures(tmp_path / "private", [7]), [encoder], policy="withhold")
    private = [item for item in library.ids() if item not in ids]
    assert len(report.added) == len(private) == 1
    assert (library.ids("withhold"), library.ids("steer")) == (private, ids)
