"""Distances mean what the field says they mean, and a filter that fails flags."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from steerclear.errors import EncoderError, LibraryError
from steerclear.filters import (
    EarlyVerdict,
    NearestFilter,
    PixelFilter,
    TiledFilter,
    flagged,
    inspect,
    pixel_l2,
    tiled_l2,
)
from steerclear.filters.early import Settings
from steerclear.filters.pixel import AllPictures, NearestPictures
from steerclear.library import Index
from steerclear.pixels import fit, to_tensor
from steerclear.testing import FakeEncoder, MockFilter


def images(n, seed=0, size=64):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def picture(seed=0, size=64):
    array = (images(1, seed, size)[0].permute(1, 2, 0) * 255).byte().numpy()
    return Image.fromarray(array)


def test_pixel_l2_is_the_root_mean_squared_difference():
    x = torch.zeros(1, 3, 8, 8)
    assert pixel_l2(x, x + 0.1) == pytest.approx(0.1)
    assert pixel_l2(x, torch.ones_like(x)) == pytest.approx(1.0)


def test_tiled_l2_finds_the_one_tile_that_differs_where_plain_l2_averages_it_away():
    x, y = torch.ones(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    y[..., :16, :16] = 0.5
    assert pixel_l2(x, y) == pytest.approx(0.125)
    assert tiled_l2(x, y) == pytest.approx(0.5)


def test_the_nearest_filter_names_the_item_and_flags_from_its_threshold_on():
    encoder, protected = FakeEncoder(), images(5)
    index = Index(tuple("abcde"), encoder(fit(protected, encoder.size)))
    copy, other = NearestFilter(encoder, index, threshold=0.999).check(
        torch.cat([protected[3:4], images(1, 9)])
    )
    assert (copy.flagged, copy.matched) == (True, "d")
    assert copy.score == pytest.approx(1.0)
    assert not other.flagged


def test_no_filter_is_made_over_nothing():
    with pytest.raises(LibraryError, match="'nearest' has no item to compare with"):
        NearestFilter(FakeEncoder(), Index((), torch.empty(0, 16)), 0.5)
    with pytest.raises(LibraryError, match="no protected picture to compare with"):
        AllPictures((), images(0))
    with pytest.raises(LibraryError, match=r"1 ids do not fit thumbnails of shape \(2, 3, 64, 64\)"):
        AllPictures(("a",), images(2))


class Emptied:
    """An index on disk, or a gallery over one, whose items have all been removed since."""

    def __init__(self):
        self.left = 1

    def __len__(self):
        return self.left

    def matches(self, queries, k=1):
        return [[] for _ in queries]

    def candidates(self, image):
        return (), image[None][:0]


def test_what_lost_its_items_since_flags_every_image_and_says_why():
    emptied, encoder = Emptied(), FakeEncoder()
    filters = [
        NearestFilter(encoder, emptied, 0.5),
        PixelFilter(emptied),
        TiledFilter(NearestPictures(encoder, emptied, {})),
    ]
    emptied.left = 0
    for row in inspect(filters, [picture(), picture(1)]):
        assert all(d.flagged and d.error.startswith("LibraryError") for d in row)


@pytest.mark.parametrize("kind", [PixelFilter, TiledFilter])
def test_the_pixel_filters_flag_a_copy_at_any_size_and_pass_another_picture(kind):
    protected = images(3, 1)
    large = torch.nn.functional.interpolate(protected[1:2], scale_factor=4, mode="nearest")
    copy, other = kind(AllPictures(("a", "b", "c"), protected), threshold=0.85).check(
        torch.cat([large, images(1, 5, 256)])
    )
    assert (copy.flagged, copy.matched) == (True, "b")
    assert not other.flagged


def test_an_encoder_that_returns_nan_is_an_error_and_an_error_flags():
    class Broken(FakeEncoder):
        def __call__(self, batch):
            return super().__call__(batch) * float("nan")

    filter_ = NearestFilter(Broken(), Index(("a",), torch.eye(1, 16)), 0.5)
    with pytest.raises(EncoderError):
        filter_.check(images(1))
    detections = inspect([filter_], [picture()])[0]
    assert flagged(detections)
    assert "NaN" in detections[0].error


def test_an_image_that_no_filter_has_seen_is_flagged():
    assert flagged(())
    assert not flagged(MockFilter(False).check(images(1)))


def test_filters_see_the_very_pixels_that_are_handed_out():
    filter_, image = MockFilter(False), picture(3)
    inspect([filter_], [image])
    assert torch.equal(filter_.calls[0], to_tensor([image]))


def test_an_early_verdict_flags_a_latent_near_a_protected_one_and_never_a_far_one():
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    settings = Settings(schedulers=("DDIMScheduler",), steps=(25, 25), guidance=(4.0, 4.0))
    early = EarlyVerdict(ids=("a", "b"), latents=latents, threshold=0.9, step=2, settings=settings)
    near, far = early.check(torch.stack([latents[1] * 3, -latents[0]]))
    assert (near.flagged, near.matched, far.flagged) == (True, "b", False)


@pytest.mark.parametrize("size", [(8, 16), (16, 8), (16, 16), (11, 21)])
def test_an_early_verdict_sees_a_protected_latent_anywhere_in_a_larger_one(size):
    generator = torch.Generator().manual_seed(0)
    latents = F.interpolate(torch.randn(2, 4, 4, 4, generator=generator), (8, 8), mode="bilinear")
    settings = Settings(schedulers=("DDIMScheduler",), steps=(25, 25), guidance=(4.0, 4.0))
    early = EarlyVerdict(ids=("a", "b"), latents=latents, threshold=0.7, step=2, settings=settings)
    for top, left in ((0, 0), (size[0] - 8, size[1] - 8), ((size[0] - 8) // 4 * 2, (size[1] - 8) // 4 * 2)):
        large = torch.zeros(1, 4, *size)
        large[..., top : top + 8, left : left + 8] = latents[1]
        assert [(d.flagged, d.matched) for d in early.check(large)] == [(True, "b")]
    assert not early.check(torch.randn(1, 4, *size, generator=generator))[0].flagged


def test_an_early_verdict_sees_a_protected_latent_that_was_enlarged_or_shrunk():
    latents = F.interpolate(torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)), (8, 8))
    settings = Settings(schedulers=("DDIMScheduler",), steps=(25, 25), guidance=(4.0, 4.0))
    early = EarlyVerdict(ids=("a", "b"), latents=latents, threshold=0.8, step=2, settings=settings)
    for size in ((4, 4), (16, 16), (24, 24)):
        assert early.check(F.interpolate(latents[:1], size))[0].matched == "a"
        assert early.check(F.interpolate(latents[:1], size))[0].flagged


def test_an_early_verdict_does_not_see_latents_of_another_kind():
    settings = Settings(schedulers=("DDIMScheduler",), steps=(25, 25), guidance=(4.0, 4.0))
    early = EarlyVerdict(("a",), torch.zeros(1, 4, 8, 8), threshold=0.7, step=2, settings=settings)
    assert early.sees(torch.zeros(1, 4, 16, 8))
    assert not early.sees(torch.zeros(1, 16, 8, 8))
    assert not early.sees(torch.zeros(1, 64, 4))
    assert not replace(early, ids=()).sees(torch.zeros(1, 4, 8, 8))


def test_a_threshold_that_is_not_a_number_flags():
    assert PixelFilter(AllPictures(("a",), images(1)), threshold=float("nan")).check(images(1))[0].flagged


def test_a_filter_that_spoils_its_pixels_does_not_blind_the_next():
    class Spoiler(MockFilter):
        def check(self, batch):
            batch.zero_()
            return super().check(batch)

    honest, image = MockFilter(False), picture(3)
    inspect([Spoiler(False), honest], [image])
    assert torch.equal(honest.calls[0], to_tensor([image]))
