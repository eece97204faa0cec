"""Every guard ends here: what is clear is handed out as it is, and what is flagged only once a rung's picture
passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from PIL import Image

from steerclear.generators.passes import Pass
from steerclear.nudge import Budget, Ladder
from steerclear.nudge.base import Candidate
from steerclear.settle import settle
from steerclear.types import Detection, Outcome, Report

COPY = Detection("nearest", flagged=True, score=0.9, threshold=0.5, matched="item-a")
CLEAR = Detection("nearest", flagged=False, score=0.1, threshold=0.5, matched="item-b")
FIRST, STEERED = (Image.new("RGB", (2, 2), (shade,) * 3) for shade in (1, 2))


@dataclass
class Task:
    seed: int = 7
    attempt: int = 0
    nfe: float = 3.0  # what preparing it has cost


class Rung:
    name = "rung"

    def apply(self, task, seed):
        task.nfe += 10.0
        return Candidate(Pass(images=[STEERED]), "done")


def forbidden(*_):
    raise AssertionError("this must not be asked")


def settled(
    detections, *, image=FIRST, withhold=(), verdicts=(), learn=lambda task, detections: None, **more
):
    """One image's way to its end; verdicts: the findings on each attempt's picture, in order."""
    ladder = Ladder((Rung(),) * len(verdicts), more.pop("budget", Budget()))
    answers = iter(verdicts)
    report = Report("a fox", seed=3, outcome=Outcome.CLEAR, detections=detections, nfe=10.0, nfe_plain=10.0)
    prepare = more.pop("prepare", Task)
    ended = settle(
        report,
        image=image,
        withhold=withhold,
        ladder=ladder,
        prepare=prepare,
        verify=lambda candidate, image: next(answers),
        learn=learn,
    )
    return ended, report


def test_a_clear_image_is_handed_out_as_it_is_and_nothing_else_is_asked():
    (image, finished), report = settled((CLEAR,), withhold=["item-b"], prepare=forbidden)
    assert image is FIRST
    assert finished is report


@pytest.mark.parametrize("detections", [(), (COPY,), (CLEAR, COPY)])
def test_an_image_that_is_flagged_or_that_no_filter_has_seen_is_never_handed_out_itself(detections):
    (image, report), _ = settled(detections)
    assert image is None
    assert report.outcome == Outcome.WITHHELD
    (image, report), _ = settled(detections, verdicts=[(CLEAR,)])
    assert image.tobytes() == STEERED.tobytes()
    assert report.outcome == Outcome.STEERED


def test_nothing_is_handed_out_where_no_rung_gives_a_picture_that_passes():
    (image, report), _ = settled((COPY,), verdicts=[(COPY,), (CLEAR, COPY)])
    assert image is None
    assert report.outcome == Outcome.WITHHELD
    assert report.reason == "none of 2 strategies gave a picture that passes"


def test_a_finished_report_tells_the_outcome_the_attempts_the_cost_and_the_reason():
    (_, report), first = settled((COPY,), verdicts=[(COPY,), (CLEAR,)])
    assert report == replace(
        first,
        outcome=Outcome.STEERED,
        attempts=report.attempts,
        nfe=10.0 + 3.0 + 20.0,
        seconds=report.seconds,
    )
    assert [attempt.after for attempt in report.attempts] == [(COPY,), (CLEAR,)]
    assert [attempt.before for attempt in report.attempts] == [(COPY,), (COPY,)]
    assert report.seconds >= sum(attempt.seconds for attempt in report.attempts)


def test_the_time_of_a_report_holds_the_preparation_and_every_attempt(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def prepare():
        now[0] += 2.0
        return Task()

    def learn(task, detections):
        now[0] += 0.5

    (_, report), _ = settled((COPY,), verdicts=[(COPY,), (CLEAR,)], prepare=prepare, learn=learn)
    assert report.seconds == 2.0 + 0.5 + 0.5


def test_the_budget_is_a_multiple_of_the_plain_cost():
    (_, report), _ = settled((COPY,), verdicts=[(COPY,)] * 3, budget=Budget(overhead=1.0))
    assert len(report.attempts) == 1
    assert "budget of 1.0 × the plain cost" in report.reason


def test_what_a_failed_candidate_resembled_is_learnt_for_the_very_task():
    learnt, task = [], Task()
    settled(
        (COPY,), verdicts=[(COPY,), (CLEAR,)], prepare=lambda: task, learn=lambda *told: learnt.append(told)
    )
    assert learnt == [(task, (COPY,)), (task, (CLEAR,))]


def test_an_item_whose_policy_is_to_withhold_is_not_steered():
    second = replace(COPY, matched="private")
    (image, report), _ = settled(
        (CLEAR, COPY, second), withhold=["private"], verdicts=[(CLEAR,)], prepare=forbidden
    )
    assert image is None
    assert report.outcome == Outcome.WITHHELD
    assert report.reason == "the library's policy for 'private' is to withhold"
    assert (report.attempts, report.nfe) == ((), 10.0)


def test_what_a_clear_finding_names_bars_nothing():
    (image, report), _ = settled((CLEAR, COPY), withhold=["item-b"], verdicts=[(CLEAR,)])
    assert image.tobytes() == STEERED.tobytes()
    assert report.outcome == Outcome.STEERED


def test_an_image_that_cannot_be_prepared_is_withheld_and_the_report_says_why():
    def broken():
        raise RuntimeError("out of memory")

    (image, report), _ = settled((COPY,), verdicts=[(CLEAR,)], prepare=broken)
    assert image is None
    assert report.outcome == Outcome.WITHHELD
    assert report.reason == "it could not be steered: RuntimeError: out of memory"
