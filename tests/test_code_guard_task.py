"""What a guard of codes tells its strategies: where the nudge pushes from, and what pulls."""

from __future__ import annotations

import math
import time

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from steerclear import CodeGuard
from steerclear.generators import GanGenerator, VaeGenerator
from steerclear.nudge import Budget, Ladder
from steerclear.nudge.code import CodeNudge
from steerclear.pixels import fit, to_tensor
from steerclear.steering import generators
from steerclear.testing import FakeEncoder, MockFilter
from steerclear.types import Detection, Outcome

SHAPE = (3, 2, 4)  # of a picture, 4 wide and 2 high, and of its code: the pixels themselves
SEEN = FakeEncoder(size=2)


class Watching:
    """A rung that keeps what the task was at each turn."""

    name, acts_on = "watching", "code"

    def __init__(self):
        self.tasks, self.unwanted = [], []

    def apply(self, task, seed):
        self.tasks.append(task)
        self.unwanted.append(task.unwanted.clone())
        return CodeNudge(iterations=0).apply(task, seed)


def module(code):
    return code.sigmoid()


def vae(decoder=module):
    return VaeGenerator(decoder, SHAPE, (0.0, 1.0), encoder=lambda pixels: pixels.clamp(0.01, 0.99).logit())


def gan(decoder=module):
    return GanGenerator(decoder, SHAPE, (0.0, 1.0))


def watched(generator, verdicts, **options):
    """Two requests of two images each; verdicts: of the filter, from the first image on."""
    watching = Watching()
    ladder = Ladder((watching,) * 2, Budget(overhead=1000))
    guard = CodeGuard(generator, [MockFilter(verdicts)], ladder=ladder, **options)
    reports = [r for seeds in ((1, 2), (3, 4)) for r in guard(2, generator=generators(seeds)).reports]
    return watching, reports


def noise(count, seed=0):
    return torch.randn((count, *SHAPE), generator=torch.Generator().manual_seed(seed))


def rows(points):
    return sorted([round(value, 5) for value in row.flatten().tolist()] for row in points)


def named(item, flagged=True):
    return Detection("mock", flagged=flagged, score=float(flagged), threshold=0.5, matched=item)


PICTURES = {
    name: torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(i)) for i, name in enumerate("abc")
}


def test_the_nudge_pushes_off_the_codes_of_the_pictures_that_were_matched_at_the_size_of_an_image():
    verdicts = [
        named("a"),
        named("b"),
        named("c", False),
        False,
    ]  # two images, then two attempts for the first
    watching, reports = watched(vae(), [*verdicts, False, False, False], protected=PICTURES, samples=0)
    assert reports[0].outcome == Outcome.STEERED
    fitted = {
        item: F.interpolate(pixels[None], size=(2, 4), mode="bicubic", antialias=True)
        .clamp(0.01, 0.99)
        .logit()
        for item, pixels in PICTURES.items()
    }
    assert rows(watching.unwanted[0]) == rows(fitted["a"])
    # the second image, of another item
    assert rows(watching.unwanted[1]) == rows(fitted["b"])


def test_what_matched_nothing_that_is_known_is_pushed_off_itself():
    for protected in ({}, PICTURES):
        watching, _ = watched(
            vae(), [named("stranger"), False, False, False, False], protected=protected, samples=0
        )
        assert torch.equal(watching.unwanted[0], noise(1, seed=1))
    watching, _ = watched(gan(), [named("a"), False], protected=PICTURES, samples=0)
    assert torch.equal(watching.unwanted[0], noise(1, seed=1))  # a GAN has no code of the picture


def test_in_an_encoders_space_the_nudge_pushes_off_the_pictures_own_points():
    watching, _ = watched(
        gan(), [named("a"), False, False, False, False], protected=PICTURES, samples=0, encoder=SEEN
    )
    fitted = F.interpolate(PICTURES["a"][None], size=(2, 2), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(watching.unwanted[0], SEEN(fitted))


def dark(image):
    return float(image[0].mean()) < 0.5


@pytest.mark.parametrize("encoder", [None, SEEN])
def test_where_nothing_is_preferred_random_samples_pull_that_all_filters_pass_and_that_are_pictures(encoder):
    def sometimes(code):
        return torch.where(code[:, :1, :1, :1] > 1, math.nan, code.sigmoid())

    samples = noise(32)
    pictures = samples.sigmoid()
    good = [
        i
        for i, (code, image) in enumerate(zip(samples, pictures, strict=True))
        if code[0, 0, 0] <= 1 and not dark(image) and image[1].mean() >= 0.5
    ]
    assert 2 < len(good) < 20
    asked = []

    def verdict(image):
        asked.append(image)
        return len(asked) <= 2 or dark(image)  # both of the first request are flagged

    stricter = MockFilter(lambda image: float(image[1].mean()) < 0.5, name="strict")
    watching, _ = watched(gan(sometimes), verdict, strict=[stricter], encoder=encoder)
    clear = watching.tasks[0].clear
    if encoder is None:
        assert torch.equal(clear, samples[good])
    else:
        shown = to_tensor(
            [Image.fromarray((p.permute(1, 2, 0) * 255).round().byte().numpy()) for p in pictures[good]]
        )
        fitted = F.interpolate(shown, size=(2, 2), mode="bicubic", antialias=True).clamp(0, 1)
        torch.testing.assert_close(clear, encoder(fitted))


def test_the_samples_are_drawn_once_and_in_nobodys_account():
    asked = []

    def counting(code):
        asked.append(len(code))
        return module(code)

    watching, reports = watched(gan(counting), [True, False, False, True, False, False, False], samples=5)
    assert asked.count(5) == 1
    assert [len(task.clear) for task in watching.tasks] == [len(watching.tasks[0].clear)] * len(
        watching.tasks
    )
    assert [r.nfe for r in reports if r.outcome == Outcome.CLEAR] == [1.0] * sum(
        r.outcome == Outcome.CLEAR for r in reports
    )


def test_no_samples_are_drawn_where_none_are_wanted_or_pictures_are_preferred():
    watching, _ = watched(gan(), [True, False, False], samples=0)
    assert watching.tasks[0].clear is None
    red = Image.new("RGB", (8, 8), "red")
    watching, _ = watched(vae(), [True, False, False], preferred=[red, red])
    assert watching.tasks[0].clear is None
    assert watching.tasks[0].preferred.shape == (2, *SHAPE)
    # a model that cannot encode them itself has the encoder see them
    watching, _ = watched(gan(), [True, False, False], preferred=[red], encoder=SEEN)
    assert watching.tasks[0].clear is None
    assert rows(watching.tasks[0].preferred) == rows(SEEN(fit(to_tensor([red]), SEEN.size)))
    watching, _ = watched(gan(), [True, False, False, False], samples=1)
    assert watching.tasks[0].clear.shape == (1, *SHAPE)


def test_a_sample_that_no_filter_would_pass_pulls_nothing():
    watching, _ = watched(gan(), True, samples=3, encoder=SEEN)
    assert len(watching.tasks[0].clear) == 0


def test_the_seconds_of_a_call_are_shared_among_its_images():
    def slow(code):
        time.sleep(0.02)
        return module(code)

    began = time.monotonic()
    _, reports = watched(gan(slow), [False, True, False, False, False], samples=0)
    elapsed = time.monotonic() - began
    assert all(r.seconds >= 0.01 for r in reports)
    assert 0.5 * elapsed < sum(r.seconds for r in reports) <= elapsed
    assert [r.nfe for r in reports] == [1.0, 2.0, 1.0, 1.0]
