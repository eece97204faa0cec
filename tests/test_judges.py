"""Filters of prompts, passes and pictures: each is asked of its own images, and what it finds counts."""

from __future__ import annotations

import pytest

from guard_doubles import (
    FAST,
    colour,
    flagging_at,
)
from steerclear.filters import MemorizationFilter, PromptFilter
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.steering import generators
from steerclear.testing import MockFilter, tiny_call, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


def blocking(prompt):
    return [PromptFilter.of([prompt]), MockFilter(False)]


@pytest.mark.parametrize(
    ("family", "options"),
    [("sd1", {}), ("sd1-image", {"strength": 0.5}), ("kandinsky22", {}), ("dit", {"guidance_scale": 4.0})],
)
def test_a_pass_that_is_left_early_says_what_the_plain_one_would_have_cost(family, options):
    pipe = tiny_pipeline(family)
    call = {**tiny_call(family, "a fox", 4), **options}
    whole = Guard(pipe, [MockFilter(False)])(generator=generators([1])[0], **call).reports[0]
    filters, early = (
        (blocking("a fox"), None) if family != "dit" else ([MockFilter(True)], flagging_at(pipe, 0))
    )
    guard = Guard(pipe, filters, early=early, ladder=Ladder(()))
    left = guard(generator=generators([1])[0], **call).reports[0]
    assert left.nfe < whole.nfe
    assert left.nfe_plain == whole.nfe_plain == whole.nfe


def test_a_blocked_prompt_is_judged_with_the_others_of_its_call_and_only_its_own_images(pipe):
    guard = Guard(pipe, blocking("a bear"), ladder=Ladder(()))
    output = guard(["a fox", "a bear"], num_images_per_prompt=2, generator=generators([1, 2, 3, 4]), **FAST)
    assert [r.outcome for r in output.reports] == ["clear", "clear", "withheld", "withheld"]
    assert [[d.filter for d in r.detections] for r in output.reports] == [["prompt", "mock"]] * 2 + [
        ["prompt"]
    ] * 2


def test_a_filter_of_prompts_is_asked_nothing_where_there_are_only_classes():
    call = tiny_call("dit", steps=2)
    output = Guard(tiny_pipeline("dit"), blocking("class 1"))(generator=generators([1])[0], **call)
    assert [d.filter for d in output.reports[0].detections] == ["mock"]
    assert output.reports[0].prompt == "class 1"


def test_what_a_filter_finds_counts_whatever_its_name(pipe):
    """Of the early verdict alone a finished picture takes no notice, and a filter may happen to have its
    name.
    """
    asked = PromptFilter((("fox", "a fox"),), name="early")
    followed = MemorizationFilter(0.0, name="early")
    for filter_ in (asked, followed):
        guard = Guard(pipe, [filter_, MockFilter(False)], ladder=Ladder(()))
        output = guard(["an owl", "a fox"], generator=generators([1, 2]), **FAST)
        assert output.images[1] is None
        assert [(d.filter, d.flagged) for d in output.reports[1].detections] == [("early", True)]


def test_filters_of_the_pass_each_see_as_many_steps_as_they_need(pipe):
    first_step, three_steps = MemorizationFilter(1e9, 1, "one"), MemorizationFilter(1e9, 3, "three")
    output = Guard(pipe, [first_step, three_steps])(["a fox"] * 2, generator=generators([1, 2]), **FAST)
    for report in output.reports:
        assert [(d.filter, d.flagged, d.error) for d in report.detections] == [
            ("one", False, None),
            ("three", False, None),
        ]
    alone = Guard(pipe, [first_step])("a fox", generator=generators([2]), **FAST).reports[0]
    assert output.reports[1].detections[0].score == pytest.approx(alone.detections[0].score, rel=1e-3)
    assert output.reports[0].detections[0].score != pytest.approx(alone.detections[0].score, rel=1e-3)


def test_a_flagged_pass_does_not_excuse_the_pictures_of_the_others(pipe):
    scores = [
        Guard(pipe, [MemorizationFilter(1e9)])(p, generator=generators([1]), **FAST)
        .reports[0]
        .detections[0]
        .score
        for p in ("a fox", "an owl at night")
    ]
    guard = Guard(pipe, [MemorizationFilter(sum(scores) / 2), MockFilter([True, False])], ladder=Ladder(()))
    output = guard(["a fox", "an owl at night"], generator=generators([1, 1]), **FAST)
    assert output.images == [None, None]
    verdicts = sorted([(d.filter, d.flagged) for d in r.detections] for r in output.reports)
    assert verdicts == [[("memorization", False), ("mock", True)], [("memorization", True)]]


def test_a_finished_picture_is_checked_by_the_ordinary_filters_one_tuple_a_picture(pipe):
    ordinary, stricter = MockFilter([True, False]), MockFilter(True, name="strict")
    detections = Guard(pipe, [ordinary], strict=[stricter]).check([colour("red"), colour("blue")])
    assert [[(d.filter, d.flagged) for d in row] for row in detections] == [
        [("mock", True)],
        [("mock", False)],
    ]
    assert stricter.count == 0
