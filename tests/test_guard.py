"""The promise: nothing flagged leaves, clear pictures leave untouched, a flagged image costs no other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard_doubles import (
    FAST,
    SHORT,
    plain,
)
from steerclear.errors import ConfigError, InputError
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.pixels import to_tensor
from steerclear.steering import generators
from steerclear.testing import MockFilter, tiny_pipeline
from steerclear.types import Outcome

SCHEDULERS = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_unflagged_image_is_bit_identical_to_the_plain_pipelines(scheduler):
    pipe = tiny_pipeline("sd1", scheduler)
    want = plain(pipe, "a fox", [7])[0]
    out = Guard(pipe, [MockFilter(False)])("a fox", generator=generators([7]), **FAST)
    assert out.images[0].tobytes() == want.tobytes()
    assert out.reports[0].outcome == Outcome.CLEAR
    assert out.reports[0].overhead == 1.0


def test_one_flagged_image_of_a_batch_leaves_the_others_bit_identical(pipe):
    want = plain(pipe, "a fox", [1, 2, 3, 4])
    filter_ = MockFilter([False, False, True, False])  # the next look, at the steered picture, is clear
    out = Guard(pipe, [filter_], ladder=SHORT)(["a fox"] * 4, generator=generators([1, 2, 3, 4]), **FAST)
    assert [r.outcome for r in out.reports] == ["clear", "clear", "steered", "clear"]
    for i in (0, 1, 3):
        assert out.images[i].tobytes() == want[i].tobytes()
    assert out.images[2].tobytes() != want[2].tobytes()


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    verdicts=st.lists(
        st.sampled_from([True, False, float("nan"), ValueError("broken")]), min_size=1, max_size=9
    )
)
def test_whatever_the_filters_say_nothing_flagged_is_ever_handed_out(pipe, verdicts):
    asked = []

    def answer(image):
        verdict = verdicts[len(asked) % len(verdicts)]
        asked.append((image.clone(), verdict is False))
        return verdict

    out = Guard(pipe, [MockFilter(answer)], ladder=SHORT)("a fox", generator=generators([3]), **FAST)
    image, report = out.images[0], out.reports[0]
    assert (image is None) == (report.outcome == Outcome.WITHHELD)
    if image is not None:
        pixels = to_tensor([image])[0]
        assert any(clear and torch.equal(seen, pixels) for seen, clear in asked)
        assert not any(d.flagged for d in report.final_detections)


@pytest.mark.parametrize("verdict", [True, float("nan"), RuntimeError("the encoder is gone")])
def test_a_filter_that_always_flags_scores_nan_or_breaks_withholds_the_image(pipe, verdict):
    out = Guard(pipe, [MockFilter(verdict)], ladder=SHORT)("a fox", generator=generators([1]), **FAST)
    report = out.reports[0]
    assert out.images == [None]
    assert report.outcome == Outcome.WITHHELD
    assert len(report.attempts) == 3
    assert "none of 3 strategies" in report.reason


def test_a_filter_that_answers_for_fewer_images_than_it_got_flags_them_all(pipe):
    class Forgetful(MockFilter):
        def check(self, images):
            return super().check(images)[:-1]

    out = Guard(pipe, [Forgetful(False)], ladder=Ladder(()))(
        ["a fox"] * 2, generator=generators([1, 2]), **FAST
    )
    assert out.images == [None, None]
    for report in out.reports:
        assert "returned 1 detections for 2 images" in report.detections[0].error


def test_a_steered_picture_must_pass_the_stricter_filters_as_well(pipe):
    ordinary, stricter = MockFilter([True, False, False]), MockFilter([True, False], name="strict")
    guard = Guard(pipe, [ordinary], strict=[stricter], ladder=SHORT)
    out = guard("a fox", generator=generators([1]), **FAST)
    first, second = out.reports[0].attempts
    assert [d.filter for d in first.after if d.flagged] == ["strict"]
    assert [d.filter for d in second.after] == ["mock", "strict"]
    assert second.passed
    handed_out = to_tensor(out.images)
    assert torch.equal(ordinary.calls[-1], handed_out)
    assert torch.equal(stricter.calls[-1], handed_out)


def test_what_only_the_stricter_filters_flag_is_withheld_once_steered_and_handed_out_where_it_was_clear(pipe):
    def ask(verdict):
        guard = Guard(pipe, [MockFilter(verdict)], strict=[MockFilter(True, name="strict")], ladder=SHORT)
        return guard("a fox", generator=generators([1]), **FAST)

    assert ask([True, False, False, False]).images == [None]
    assert ask(False).images[0].tobytes() == plain(pipe, "a fox", [1])[0].tobytes()


def test_the_same_request_gives_the_same_steered_image(pipe):
    def ask():
        return Guard(pipe, [MockFilter([True, False])], ladder=SHORT)(
            "a fox", generator=generators([5]), **FAST
        ).images[0]

    assert ask().tobytes() == ask().tobytes()


def test_without_a_generator_the_reported_seed_makes_the_picture_again(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    out = guard("a fox", **FAST)
    assert plain(pipe, "a fox", [out.reports[0].seed])[0].tobytes() == out.images[0].tobytes()


def test_without_a_generator_each_call_draws_noise_of_its_own(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    seeds = [
        report.seed for _ in range(2) for report in guard("a fox", num_images_per_prompt=2, **FAST).reports
    ]
    assert len(set(seeds)) == 4


def test_two_guards_around_one_pipeline_queue(pipe):
    guards = [Guard(pipe, [MockFilter(False)]) for _ in range(2)]
    want = plain(pipe, "a fox", [1])[0].tobytes()
    with ThreadPoolExecutor(4) as pool:
        outputs = list(
            pool.map(lambda i: guards[i % 2]("a fox", generator=generators([1]), **FAST), range(4))
        )
    assert {out.images[0].tobytes() for out in outputs} == {want}


def test_a_guard_refuses_what_would_wave_pictures_through_or_hide_scores(pipe):
    with pytest.raises(ConfigError, match="filters"):
        Guard(pipe, [])
    pipe_with_checker = tiny_pipeline("sd1")
    pipe_with_checker.safety_checker = object()
    with pytest.raises(ConfigError, match="safety_checker"):
        Guard(pipe_with_checker, [MockFilter(False)])


@pytest.mark.parametrize(
    ("prompt", "options", "named"),
    [
        ("", {}, "empty"),
        ("  \n", {}, "empty"),
        ([], {}, "no prompt"),
        ("x" * 10_000, {}, "10000 characters"),
        ("a fox", {"num_inference_steps": 0}, "num_inference_steps is 0"),
        ("a fox", {"num_images_per_prompt": 0}, "is 0"),
        (None, {}, "no prompt"),
    ],
)
def test_bad_input_is_named_with_the_way_out(pipe, prompt, options, named):
    with pytest.raises(InputError, match=named):
        Guard(pipe, [MockFilter(False)])(prompt, **options)
