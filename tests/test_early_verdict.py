"""The early verdict may end a pass, but never clears a picture."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from guard_doubles import FAST, SHORT, Watching, early_verdict, flagging_at, plain, protected_by
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.pixels import to_tensor
from steerclear.protected import Protected
from steerclear.steering import generators
from steerclear.testing import MockFilter, tiny_pipeline
from steerclear.types import Outcome


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


def test_an_early_verdict_leaves_a_doomed_pass_and_still_verifies_the_new_image(pipe):
    picture = plain(pipe, "a fox", [1])
    protected = protected_by(pipe, picture)
    early = early_verdict(pipe, protected, -1.0)
    guard = Guard(pipe, [MockFilter([True, False])], protected=protected, early=early, ladder=SHORT)
    report = guard("a fox", generator=generators([1]), **FAST).reports[0]
    assert report.outcome == Outcome.STEERED
    assert report.nfe - sum(a.nfe for a in report.attempts) == 2  # one guided step instead of three
    assert report.detections[0].filter == "early"
    assert report.matched == "item-0"


def test_an_early_verdict_that_flags_only_some_of_a_batch_lets_the_pass_finish(pipe):
    picture = plain(pipe, "a fox", [1, 2])
    protected = protected_by(pipe, picture[:1])
    scores = early_verdict(pipe, protected, -1.0)

    check = scores.check

    def first_alone(denoised):
        near, far = check(denoised)
        return [near, replace(far, flagged=False, score=-2.0)]

    object.__setattr__(scores, "check", first_alone)
    guard = Guard(pipe, [MockFilter(False)], protected=protected, early=scores)
    out = guard(["a fox"] * 2, generator=generators([1, 2]), **FAST)
    assert [i.tobytes() for i in out.images] == [p.tobytes() for p in picture]


@pytest.mark.parametrize(
    "other",
    [{"steps": (4, 9)}, {"guidance": (1.0, 3.9)}, {"scheduler": "PNDMScheduler"}, {"spacing": "other"}],
)
def test_an_early_verdict_ends_no_pass_under_settings_that_it_was_not_calibrated_for(pipe, other):
    picture = plain(pipe, "a fox", [1])
    early = early_verdict(pipe, protected_by(pipe, picture), -1.0, **other)
    out = Guard(pipe, [MockFilter(False)], early=early)("a fox", generator=generators([1]), **FAST)
    assert out.images[0].tobytes() == picture[0].tobytes()


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"num_inference_steps": 2},
        {"guidance_scale": 9.0},
        {"negative_prompt": "blurry"},
        {"height": 32, "width": 64},
    ],
)
@pytest.mark.parametrize("near", [True, False])
def test_a_picture_whose_latent_is_near_a_protected_one_must_pass_the_strict_filters(pipe, other, near):
    picture = pipe("a fox", generator=generators([1]), **{**FAST, **other}).images
    early = early_verdict(pipe, protected_by(pipe, picture), -1.0 if near else 2.0, steps=(25, 25))
    strict = MockFilter(True, name="strict mock")
    guard = Guard(pipe, [MockFilter(False)], strict=[strict], early=early, ladder=Ladder(()))
    output = guard("a fox", generator=generators([1]), **{**FAST, **other})
    assert len(strict.calls) == near
    assert output.reports[0].outcome == (Outcome.WITHHELD if near else Outcome.CLEAR)
    if not near:
        assert output.images[0].tobytes() == picture[0].tobytes()


def test_a_suspect_picture_that_passes_the_strict_filters_is_handed_out_as_it_is(pipe):
    picture = plain(pipe, "a fox", [1])
    early = early_verdict(pipe, protected_by(pipe, picture), -1.0, steps=(25, 25))
    guard = Guard(pipe, [MockFilter(False)], strict=[MockFilter(False, name="strict mock")], early=early)
    output = guard("a fox", generator=generators([1]), **FAST)
    assert output.reports[0].outcome == Outcome.CLEAR
    assert output.images[0].tobytes() == picture[0].tobytes()


def test_an_early_verdict_says_nothing_of_latents_that_it_cannot_compare(pipe):
    protected = protected_by(pipe, plain(pipe, "a fox", [1]))
    verdict = early_verdict(pipe, protected, -1.0)  # would flag whatever it can compare
    other = replace(verdict, latents=torch.cat([verdict.latents] * 2, dim=1))  # of twice as many channels
    guard = Guard(pipe, [MockFilter(False)], protected=protected, strict=[MockFilter(True)], early=other)
    out = guard("a fox", generator=generators([1]), **FAST)
    assert out.images[0].tobytes() == plain(pipe, "a fox", [1])[0].tobytes()
    assert [d.filter for d in out.reports[0].detections] == ["mock"]


def test_an_early_verdict_that_fails_flags_its_images(pipe):
    early = early_verdict(pipe, protected_by(pipe, plain(pipe, "a fox", [1])), 2.0)
    object.__setattr__(early, "check", lambda denoised: 1 / 0)
    output = Guard(pipe, [MockFilter(False)], early=early, ladder=Ladder(()))(
        "a fox", generator=generators([1]), **FAST
    )
    assert output.images == [None]
    assert "ZeroDivisionError" in output.reports[0].detections[0].error


@pytest.mark.parametrize("within", [{"steps": (2, 9)}, {"guidance": (1.0, 4.0)}])
def test_an_early_verdict_speaks_anywhere_within_the_settings_that_it_was_tried_under(pipe, within):
    protected = protected_by(pipe, plain(pipe, "a fox", [1]))
    early = early_verdict(pipe, protected, -1.0, **within)
    guard = Guard(pipe, [MockFilter(False)], protected=protected, early=early, ladder=SHORT)
    assert guard("a fox", generator=generators([1]), **FAST).reports[0].detections[0].filter == "early"


@pytest.mark.parametrize("step", [0, 1])
def test_an_early_verdict_is_given_at_its_own_step(pipe, step):
    guard = Guard(pipe, [MockFilter(False)], early=flagging_at(pipe, step), ladder=Ladder(()))
    (report,) = guard("a fox", generator=generators([1]), **FAST).reports
    assert (report.nfe, report.nfe_plain) == (2 * (step + 1), 2 * FAST["num_inference_steps"])
    assert [d.filter for d in report.detections] == ["early"]


def test_where_a_pass_is_left_the_filters_look_at_what_it_was_about_to_make(pipe):
    protected, filter_ = Protected(pipe, {}), MockFilter([True, False], name="library", cost="library")
    watching = Watching()
    guard = Guard(
        pipe, [filter_], protected=protected, early=flagging_at(pipe, 1), ladder=Ladder((watching,))
    )
    (report,) = guard("a fox", generator=generators([1]), **FAST).reports
    assert [(d.filter, d.flagged) for d in report.detections] == [("early", True), ("library", True)]
    assert torch.equal(filter_.calls[0], to_tensor(protected.decode(watching.tasks[0].clean)))
