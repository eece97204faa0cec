"""The promise: nothing flagged leaves, clear pictures leave untouched, a flagged image costs no other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from steerclear.errors import ConfigError, InputError
from steerclear.filters import CustomFilter, EarlyVerdict, pixel_l2
from steerclear.filters.early import Settings
from steerclear.guard import Guard
from steerclear.nudge import Budget, Ladder
from steerclear.nudge.base import Candidate
from steerclear.nudge.ladder import strategies
from steerclear.pipelines import latent_like
from steerclear.pixels import to_tensor
from steerclear.protected import Protected
from steerclear.steering import generators
from steerclear.testing import MockFilter, tiny_pipeline
from steerclear.types import Detection, Outcome

SCHEDULERS = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
FAST = {"num_inference_steps": 3, "guidance_scale": 4.0}
SHORT = Ladder(strategies(("condition", "final-latent+condition", "resample")))


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


def plain(pipe, prompt, seeds, **kwargs):
    return pipe([prompt] * len(seeds), generator=generators(seeds), **{**FAST, **kwargs}).images


def protected_by(pipe, images):
    return Protected(pipe, {f"item-{i}": pixels for i, pixels in enumerate(to_tensor(images))})


def early_verdict(
    pipe, protected, threshold, step=0, scheduler=None, steps=(3, 3), guidance=(4.0, 4.0), spacing="same"
):
    latents = protected.latents(tuple(protected.pictures), latent_like(pipe))
    usual = pipe.scheduler.config.timestep_spacing
    settings = Settings(
        (scheduler or type(pipe.scheduler).__name__,),
        steps=steps,
        guidance=guidance,
        spacing=usual if spacing == "same" else spacing,
    )
    return EarlyVerdict(
        tuple(protected.pictures), latents=latents, threshold=threshold, step=step, settings=settings
    )


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


class Watching:
    """A rung that notes from what it is pushed, and draws something else."""

    name = "watching"

    def __init__(self):
        self.unwanted = []

    def apply(self, task, seed):
        self.unwanted.append(task.unwanted.clone())
        condition, noise = task.condition("an owl at night"), task.torch_generator(seed)
        run = task.runner.regenerate(condition, task.start, kwargs=task.kwargs, generator=noise)
        return Candidate(run, "watched")


def rows(latents):
    return sorted(row.flatten().tolist() for row in latents)


def test_no_rung_flees_from_one_protected_picture_into_another(pipe):
    protected = protected_by(pipe, plain(pipe, "a fox", [1, 2, 3]))
    first, second, third = (
        Detection("mock", flagged=True, score=1.0, threshold=0.5, matched=f"item-{i}") for i in range(3)
    )
    passing = replace(third, flagged=False, score=0.1)  # what a clear finding names is no copy
    filters = [
        MockFilter([first, second, passing, False]),
        MockFilter([False, False, True, False], name="other"),
    ]
    watching = Watching()
    guard = Guard(pipe, filters, protected=protected, ladder=Ladder((watching,) * 3))
    report = guard("a fox", generator=generators([1]), **FAST).reports[0]
    assert report.outcome == Outcome.STEERED
    first_latent, second_latent = protected.latents(["item-0", "item-1"], watching.unwanted[0]).split(1)
    both = torch.cat([first_latent, second_latent])
    assert [rows(unwanted) for unwanted in watching.unwanted] == [rows(first_latent), rows(both), rows(both)]


def test_a_picture_that_resembles_nothing_known_is_pushed_from_itself_until_one_is_named(pipe):
    protected = protected_by(pipe, plain(pipe, "a fox", [2]))
    named = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="item-0")
    unknown = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="a text of a block-list")
    watching = Watching()
    guard = Guard(
        pipe, [MockFilter([unknown, True, named, False])], protected=protected, ladder=Ladder((watching,) * 3)
    )
    report = guard("a fox", generator=generators([1]), **FAST).reports[0]
    assert report.outcome == Outcome.STEERED
    itself = pipe("a fox", generator=generators([1]), output_type="latent", **FAST).images
    item = protected.latents(["item-0"], itself)
    expected = [rows(itself), rows(itself), rows(torch.cat([itself, item]))]
    assert [rows(unwanted) for unwanted in watching.unwanted] == expected


def test_every_evaluation_of_the_denoiser_is_counted(pipe):
    rows = []
    handle = pipe.unet.register_forward_pre_hook(lambda m, a, k: rows.append(len(a[0])), with_kwargs=True)
    try:
        out = Guard(pipe, [MockFilter(True)], ladder=SHORT)("a small fox", generator=generators([1]), **FAST)
    finally:
        handle.remove()
    report = out.reports[0]
    assert report.nfe_plain == 2 * FAST["num_inference_steps"]
    assert report.nfe == sum(rows)
    assert sum(a.nfe for a in report.attempts) == report.nfe - report.nfe_plain


def test_the_same_request_gives_the_same_steered_image(pipe):
    def ask():
        return Guard(pipe, [MockFilter([True, False])], ladder=SHORT)(
            "a fox", generator=generators([5]), **FAST
        ).images[0]

    assert ask().tobytes() == ask().tobytes()


def test_a_spent_budget_ends_the_ladder_and_says_so(pipe):
    guard = Guard(pipe, [MockFilter(True)], ladder=SHORT)
    out = guard("a fox", generator=generators([1]), budget=Budget(overhead=0), **FAST)
    assert out.reports[0].attempts == ()
    assert "budget" in out.reports[0].reason


def test_a_cancelled_request_begins_no_further_rung_and_hands_out_nothing(pipe):
    cancelled = threading.Event()
    looks = []

    def cancel_at_the_second_look(images):
        looks.append(images)
        if len(looks) == 2:
            cancelled.set()
        return [1.0] * len(images)

    guard = Guard(pipe, [CustomFilter("all", cancel_at_the_second_look, threshold=0.5)], ladder=SHORT)
    out = guard("a fox", generator=generators([1]), budget=Budget(cancelled=cancelled.is_set), **FAST)
    assert out.images == [None]
    assert len(out.reports[0].attempts) == 1
    assert out.reports[0].reason == "cancelled"


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


def test_an_item_whose_policy_is_to_withhold_is_never_steered(pipe):
    picture = plain(pipe, "a fox", [1])
    protected = Protected(pipe, {"private": to_tensor(picture)[0]}, ["private"])
    detection = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="private")
    out = Guard(pipe, [MockFilter([detection, False])], protected=protected)(
        "a fox", generator=generators([1]), **FAST
    )
    assert out.images == [None]
    assert out.reports[0].attempts == ()
    assert "private" in out.reports[0].reason


def test_a_strategy_that_breaks_costs_neither_the_batch_nor_the_next_strategy(pipe):
    class Broken:
        name = "broken"

        def apply(self, task, seed):
            raise RuntimeError("out of memory")

    ladder = Ladder((Broken(), *SHORT.rungs))
    guard = Guard(pipe, [MockFilter([False, True, False])], ladder=ladder)
    out = guard(["a fox"] * 2, generator=generators([1, 2]), negative_prompt=["a cat", "a dog"], **FAST)
    assert [r.outcome for r in out.reports] == ["clear", "steered"]
    assert out.reports[1].attempts[0].stopped == "RuntimeError: out of memory"
    assert out.reports[1].attempts[0].after == ()


def test_a_request_of_another_size_is_steered_at_that_size(pipe):
    picture = plain(pipe, "a fox", [1])
    protected = protected_by(pipe, picture)
    detection = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="item-0")
    guard = Guard(
        pipe,
        [MockFilter([detection, False])],
        protected=protected,
        early=early_verdict(pipe, protected, -1.0),
        ladder=SHORT,
    )
    out = guard("a fox", generator=generators([1]), height=96, width=64, **FAST)
    assert out.reports[0].outcome == Outcome.STEERED
    assert out.images[0].size == (64, 96)


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


def steered(pipe, strategy, *preferred):
    """What one strategy makes of a flagged fox, under these wishes."""
    protected = protected_by(pipe, plain(pipe, "a fox", [1]))
    ladder = Ladder(strategies((strategy,)))
    guard = Guard(pipe, [MockFilter([True, False])], protected=protected, preferred=preferred, ladder=ladder)
    return guard("a fox", generator=generators([1]), **FAST).images[0]


def distance(image, other):
    return float(pixel_l2(*to_tensor([image, other]).split(1)))


@pytest.mark.parametrize("strategy", ["condition", "final-latent+condition", "trajectory+condition"])
def test_a_preferred_text_pulls_the_steered_image_towards_what_it_draws(pipe, strategy):
    owl = plain(pipe, "an owl at night", [1])[0]
    wished, unwished = steered(pipe, strategy, "an owl at night"), steered(pipe, strategy)
    assert distance(wished, owl) < distance(unwished, owl)
    assert distance(wished, owl) < distance(steered(pipe, strategy, "a red car"), owl)


@pytest.mark.parametrize("strategy", ["final-latent", "final-latent+condition", "trajectory+condition"])
def test_a_preferred_picture_pulls_the_steered_image_towards_itself(pipe, strategy):
    red, blue = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    wished = steered(pipe, strategy, red)
    assert distance(wished, red) < distance(steered(pipe, strategy), red)
    assert distance(wished, red) < distance(steered(pipe, strategy, blue), red)


def test_a_preferred_text_and_a_preferred_picture_pull_together(pipe):
    red, owl = Image.new("RGB", (64, 64), "red"), plain(pipe, "an owl at night", [1])[0]
    strategy = "final-latent+condition"
    both = steered(pipe, strategy, "an owl at night", red)
    assert distance(both, red) < distance(steered(pipe, strategy, "an owl at night"), red)
    assert both.tobytes() != steered(pipe, strategy, red).tobytes()
    assert distance(steered(pipe, "condition", "an owl at night", red), owl) < distance(
        steered(pipe, "condition", red), owl
    )


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    "strategy",
    ["final-latent", "final-latent+condition", "trajectory", "shield", "condition", "rewrite", "resample"],
)
def test_every_strategy_runs_under_every_scheduler_and_leaves_the_pipeline_as_it_was(scheduler, strategy):
    pipe = tiny_pipeline("sd1", scheduler)
    before = plain(pipe, "a fox", [1])[0].tobytes()
    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(strategies((strategy,))))
    out = guard("a small fox", generator=generators([1]), num_inference_steps=5, guidance_scale=4.0)
    assert out.reports[0].outcome == Outcome.STEERED
    assert not {"step", "set_timesteps", "scale_model_input"} & set(vars(pipe.scheduler))
    assert plain(pipe, "a fox", [1])[0].tobytes() == before


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
