"""Items that are enforced for a share of the seeds alone: the report says what was handed out of them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from PIL import Image

from steerclear import Guard, Library
from steerclear.filters.rolled_out import RolledOut
from steerclear.library import add
from steerclear.library.rollout import Share, set_share, shares
from steerclear.nudge import Ladder
from steerclear.output import report_line
from steerclear.testing import FakeEncoder, MockFilter, tiny_pipeline
from steerclear.types import Outcome

FAST = {"num_inference_steps": 2, "guidance_scale": 4.0}
ENCODER = FakeEncoder(name="descriptor")
THRESHOLDS = {"nearest": 0.999999, "pixel": 0.9999, "tiled": 0.9999, "copy": 1000.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def fake_descriptor(monkeypatch):
    """The tests' libraries are built with a tiny encoder under the embedded descriptor's name."""
    from steerclear.encoders.embedded import CopyDescriptor

    monkeypatch.setattr(CopyDescriptor, "default", classmethod(lambda cls, device="cpu": ENCODER))


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


@pytest.fixture(scope="module")
def plain(pipe):
    """What the pipeline makes of "a fox" with seeds 0 to 3."""
    return [pipe("a fox", generator=seeded(seed), **FAST).images[0] for seed in range(4)]


@pytest.fixture
def library(plain, tmp_path):
    """Holds those four pictures, fox-0 to fox-3, and one that nothing resembles."""
    library = Library.create(tmp_path / "library", [ENCODER])
    (tmp_path / "art").mkdir()
    for seed, picture in enumerate(plain):
        picture.save(tmp_path / "art" / f"fox-{seed}.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "art" / "other.png")
    add(library, tmp_path / "art", [ENCODER])
    library.write_note("calibration", {"thresholds": THRESHOLDS})
    return library


@pytest.fixture
def guard(pipe, library):
    """Hands out nothing in the place of a copy."""
    return Guard.wrap(pipe, library.uri, ladder=Ladder(()))


def ask(guard, seed=0):
    output = guard("a fox", generator=seeded(seed), **FAST)
    return output.images[0], output.reports[0]


def test_a_copy_of_an_observed_item_is_handed_out_and_named_in_the_report(guard, library, plain):
    set_share(library, "fox-0", percent=0, why="a flood")
    image, report = ask(guard)
    assert np.array_equal(image, plain[0])
    assert report.outcome is Outcome.OBSERVED
    assert {d.matched for d in report.observed} == {"fox-0"} == {report.matched}
    assert not any(d.flagged for d in report.detections)
    line = report_line(report, "0.png")
    assert (line["outcome"], line["matched"]) == ("observed", "fox-0")
    assert {d["filter"] for d in line["observed"]} == {d.filter for d in report.observed}
    assert {"nearest", "pixel", "tiled"} <= {d.filter for d in report.observed}


def test_copies_of_all_other_items_are_withheld_as_before(guard, library):
    set_share(library, "fox-0", percent=0, why="a flood")
    image, report = ask(guard, seed=1)
    assert image is None
    assert (report.outcome, report.matched, report.observed) == (Outcome.WITHHELD, "fox-1", ())


def test_an_observed_item_does_not_hide_another_that_the_picture_resembles_as_well(
    guard, library, plain, tmp_path
):
    nearly = np.asarray(plain[0]).copy()
    nearly[0, 0] ^= 1  # another file of nearly the same picture, which matches a little less
    Image.fromarray(nearly).save(tmp_path / "twin.png")
    add(library, tmp_path / "twin.png", [ENCODER])
    set_share(library, "fox-0", percent=0, why="a flood")
    image, report = ask(guard)
    assert image is None
    assert (report.outcome, report.matched) == (Outcome.WITHHELD, "twin")


def test_a_running_guard_follows_a_share_with_its_next_request(guard, library):
    assert ask(guard)[1].outcome is Outcome.WITHHELD
    set_share(Library.open(library.uri), "fox-0", percent=0, why="a flood")  # as another process does
    assert ask(guard)[1].outcome is Outcome.OBSERVED
    set_share(Library.open(library.uri), "fox-0", percent=100, why="")
    assert ask(guard)[1].outcome is Outcome.WITHHELD


def test_other_notes_do_not_have_the_guard_built_again(guard, library):
    set_share(library, "fox-0", percent=0, why="a flood")
    ask(guard)
    parts = guard._followed.parts
    library.write_note("anything", {"a": 1})
    ask(guard)
    assert guard._followed.parts is parts


def test_the_seed_says_whether_a_partly_enforced_item_is_enforced(guard, library):
    for seed in range(4):
        set_share(library, f"fox-{seed}", percent=50, why="new")
    expected = [
        Outcome.WITHHELD if share.enforced(seed) else Outcome.OBSERVED
        for seed, share in enumerate(shares(library))
    ]
    assert set(expected) == {Outcome.WITHHELD, Outcome.OBSERVED}
    assert ask(guard, seed=1)[1].outcome is expected[1]
    generators = [seeded(seed) for seed in range(4)]
    together = guard("a fox", num_images_per_prompt=4, generator=generators, **FAST)
    assert [report.outcome for report in together.reports] == expected


def test_a_check_of_finished_pictures_counts_every_item(guard, library, plain):
    set_share(library, "fox-0", percent=0, why="a flood")
    row = guard.check([plain[0]])[0]
    assert {d.matched for d in row if d.flagged} == {"fox-0"}


def test_a_steered_picture_may_not_resemble_an_enforced_item_and_says_where_it_resembles_another(
    pipe, library, monkeypatch
):
    from steerclear.judges import Judges

    looked = []
    look = Judges.on_rolled_out

    def on_rolled_out(self, image, seed, *, steered):
        looked.append(steered)
        return look(self, image, seed, steered=steered)

    monkeypatch.setattr(Judges, "on_rolled_out", on_rolled_out)
    set_share(library, "fox-1", percent=0, why="a flood")
    guard = Guard.wrap(pipe, library.uri, ladder=["resample"])
    _, report = ask(guard)
    assert looked[:2] == [False, True]
    assert report.outcome is Outcome.STEERED


PICTURE = Image.new("RGB", (8, 8))


def share(item, percent):
    return Share(item, percent=percent, why="", since=datetime.now(UTC))


def test_what_cannot_be_looked_for_is_enforced():
    def build(items):
        raise OSError("no disk")

    decides, observed = RolledOut([share("fox", 0)], build).look(PICTURE, 0, ["nearest"])
    assert decides[0].flagged
    assert "no disk" in decides[0].error
    assert observed == ()


def test_a_filter_that_fails_is_enforced_even_where_its_items_are_only_observed():
    broken = MockFilter(RuntimeError("it broke"), name="nearest")
    rolled_out = RolledOut([share("fox", 0)], lambda items: ([broken], []))
    decides, observed = rolled_out.look(PICTURE, 0, ["nearest"])
    assert "it broke" in decides[0].error
    assert observed == ()


def test_only_the_filters_that_the_guard_uses_are_asked():
    filters = [MockFilter(0.9, name="nearest"), MockFilter(0.9, name="tiled")]
    rolled_out = RolledOut([share("fox", 0)], lambda items: (filters, []))
    assert [d.filter for d in rolled_out.look(PICTURE, 0, ["tiled"])[1]] == ["tiled"]
