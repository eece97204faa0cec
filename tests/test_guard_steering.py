"""A flagged image climbs the ladder: what its strategies are pushed from, what pulls, and when it ends."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from PIL import Image

from guard_doubles import (
    FAST,
    SHORT,
    Watching,
    early_verdict,
    plain,
    protected_by,
)
from steerclear.filters import CustomFilter, pixel_l2
from steerclear.guard import Guard
from steerclear.nudge import Budget, Ladder
from steerclear.nudge.ladder import strategies
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


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


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
    watching = Watching(lambda task: task.unwanted.clone())
    guard = Guard(pipe, filters, protected=protected, ladder=Ladder((watching,) * 3))
    report = guard("a fox", generator=generators([1]), **FAST).reports[0]
    assert report.outcome == Outcome.STEERED
    first_latent, second_latent = protected.latents(["item-0", "item-1"], watching.answers[0]).split(1)
    both = torch.cat([first_latent, second_latent])
    assert [rows(unwanted) for unwanted in watching.answers] == [rows(first_latent), rows(both), rows(both)]


def test_a_picture_that_resembles_nothing_known_is_pushed_from_itself_until_one_is_named(pipe):
    protected = protected_by(pipe, plain(pipe, "a fox", [2]))
    named = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="item-0")
    unknown = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="a text of a block-list")
    watching = Watching(lambda task: task.unwanted.clone())
    guard = Guard(
        pipe, [MockFilter([unknown, True, named, False])], protected=protected, ladder=Ladder((watching,) * 3)
    )
    report = guard("a fox", generator=generators([1]), **FAST).reports[0]
    assert report.outcome == Outcome.STEERED
    itself = pipe("a fox", generator=generators([1]), output_type="latent", **FAST).images
    item = protected.latents(["item-0"], itself)
    expected = [rows(itself), rows(itself), rows(torch.cat([itself, item]))]
    assert [rows(unwanted) for unwanted in watching.answers] == expected


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
