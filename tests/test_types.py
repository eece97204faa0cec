"""What travels along a request tells the truth: unsure means flagged, and a report's figures are of the right
picture.
"""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steerclear.types import Attempt, Detection, GuardOutput, Outcome, Place, Report

FLAGGED = Detection("nearest", flagged=True, score=0.9, threshold=0.5, matched="item-a")
CLEAR = Detection("nearest", flagged=False, score=0.2, threshold=0.5, matched="item-b")


def attempt(*after, **more):
    return replace(
        Attempt("rewrite", seed=1, nfe=6.0, seconds=0.5, before=(FLAGGED,), after=after, stopped="done"),
        **more,
    )


def report(*detections, **more):
    return replace(Report("a fox", seed=3, outcome=Outcome.STEERED, detections=detections), **more)


ODD = [math.nan, math.inf, -math.inf, "0.1", {"score": 0.1}, None, True, 1 + 0j]  # no finite real numbers


@given(
    says_flagged=st.booleans(),
    score=st.sampled_from([-1.0, 0.0, 0.5, 1, 7.0, *ODD]),
    threshold=st.sampled_from([0.0, 0.5, 1, *ODD]),
    error=st.sampled_from([None, "", "out of memory"]),
)
def test_an_image_is_flagged_by_its_score_and_wherever_a_filter_could_not_see(
    says_flagged, score, threshold, error
):
    detection = Detection("any", flagged=says_flagged, score=score, threshold=threshold, error=error)
    unsure = error is not None or any(value is odd for value in (score, threshold) for odd in ODD)
    assert detection.flagged == (says_flagged or unsure or score >= threshold)
    assert (detection.error is not None) == unsure
    assert isinstance(detection.score, int | float)
    assert isinstance(detection.threshold, int | float)


def test_a_finding_cannot_be_changed_once_made():
    with pytest.raises(FrozenInstanceError):
        FLAGGED.flagged = False


@pytest.mark.parametrize(
    ("after", "passed"),
    [((), False), ((CLEAR,), True), ((CLEAR, CLEAR), True), ((FLAGGED,), False), ((CLEAR, FLAGGED), False)],
)
def test_an_attempt_passed_where_filters_looked_and_none_of_them_flagged(after, passed):
    assert attempt(*after).passed is passed


def test_the_final_findings_are_those_of_the_last_picture_that_was_made():
    first, last = (FLAGGED,), (CLEAR,)
    assert report(FLAGGED).final_detections == (FLAGGED,)
    assert report(FLAGGED, attempts=(attempt(),)).final_detections == (FLAGGED,)
    attempts = (attempt(*first), attempt(*last), attempt())  # the last broke before it had made one
    assert report(FLAGGED, attempts=attempts).final_detections == last
    assert report(FLAGGED, attempts=attempts[:1]).final_detections == first


def test_a_report_names_the_first_item_that_a_flagged_finding_names():
    nameless = replace(FLAGGED, matched=None)
    assert report(CLEAR, nameless, FLAGGED, replace(FLAGGED, matched="item-c")).matched == "item-a"
    assert report(CLEAR).matched is None
    assert report(nameless).matched is None


def test_a_report_says_where_the_item_that_it_names_lies_and_no_other():
    here, there = (
        Place((0.0, 0.0, share, share), scale=share, turn=0.0, mirrored=False) for share in (0.5, 0.25)
    )
    clear = replace(CLEAR, matched="item-a", where=there)
    another = replace(FLAGGED, matched="item-c", where=there)
    knows = replace(FLAGGED, where=here)
    assert report(clear, FLAGGED, another, knows).where == here
    assert report(clear, FLAGGED, another).where is None
    assert report(another, knows).where == there


def test_the_likeness_before_and_after_is_the_nearest_filters_score():
    other, blind = replace(FLAGGED, filter="pixel", score=0.7), replace(FLAGGED, score=math.nan)
    steered = report(other, FLAGGED, attempts=(attempt(other, CLEAR),))
    assert (steered.similarity_before, steered.similarity_after) == (0.9, 0.2)
    unknown = report(other, blind, attempts=(attempt(other),))
    assert (unknown.similarity_before, unknown.similarity_after) == (None, None)


def test_the_overhead_is_a_multiple_of_the_plain_cost():
    assert report(nfe=15.0, nfe_plain=6.0).overhead == 2.5
    assert report(nfe=15.0).overhead == 1.0


def test_a_report_as_a_dictionary_holds_everything_and_is_plain_json():
    whole = report(
        FLAGGED,
        attempts=(attempt(CLEAR),),
        nfe=12.0,
        nfe_plain=6.0,
        seconds=1.5,
        reason="why",
        unread="end",
        library_version=4,
    )
    told = whole.to_dict()
    assert json.loads(json.dumps(told)) == {
        "prompt": "a fox",
        "seed": 3,
        "outcome": "steered",
        "detections": [
            {
                "filter": "nearest",
                "flagged": True,
                "score": 0.9,
                "threshold": 0.5,
                "matched": "item-a",
                "error": None,
                "where": None,
            }
        ],
        "attempts": [
            {
                "strategy": "rewrite",
                "seed": 1,
                "nfe": 6.0,
                "seconds": 0.5,
                "before": json.loads(json.dumps(told["detections"])),
                "after": [
                    {
                        "filter": "nearest",
                        "flagged": False,
                        "score": 0.2,
                        "threshold": 0.5,
                        "matched": "item-b",
                        "error": None,
                        "where": None,
                    }
                ],
                "stopped": "done",
            }
        ],
        "nfe": 12.0,
        "nfe_plain": 6.0,
        "seconds": 1.5,
        "reason": "why",
        "unread": "end",
        "library_version": 4,
        "observed": [],
        "before": 0.9,
        "after": 0.2,
        "matched": "item-a",
        "where": None,
    }
    assert type(told["outcome"]) is str


def test_a_report_that_says_no_more_claims_no_attempt_cost_or_reason():
    bare = report(CLEAR)
    assert (bare.attempts, bare.nfe, bare.nfe_plain, bare.seconds) == ((), 0.0, 0.0, 0.0)
    assert (bare.reason, bare.unread, bare.library_version) == (None, None, None)
    assert GuardOutput([]).reports == []


def test_outcomes_are_written_as_the_words_that_the_docs_use():
    assert [str(outcome) for outcome in Outcome] == ["clear", "steered", "withheld", "observed"]
