"""The ladder of each strategy alone is what the stated rule makes of the committed table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steerclear_lab.bench.rungs import LAST_RESORT, LEAST, ladder, make_same_pictures, page
from steerclear_lab.strategies import STRATEGIES

COMMITTED = Path(__file__).parents[3] / "docs" / "benchmarks" / "rungs.json"


def kind(passed=1.0, served=0.5, concept=0.8, nfe=1.0, upper=None):
    figures = {"passed": passed, "served": served, "concept": concept}
    bounds = {key: [value] * 3 for key, value in figures.items()} | {"rung_nfe": nfe}
    bounds["served"][2] = served if upper is None else upper
    return bounds


def rows(label, pictures):
    return [
        {
            "label": label,
            "prompt": f"p{i}",
            "seed": 1,
            "outcome": "steered" if picture else "withheld",
            "sha256": picture,
        }
        for i, picture in enumerate(pictures)
    ]


def test_the_committed_table_makes_its_ladder():
    document = json.loads(COMMITTED.read_text())
    assert ladder(document["summary"], document["rows"]) == tuple(document["ladder"])
    assert set(document["summary"]) == set(STRATEGIES)
    assert page(document) == COMMITTED.with_suffix(".md").read_text()


def test_the_cheapest_comes_first_and_of_those_that_cost_alike_the_one_that_serves_more():
    seen = {
        "a": kind(nfe=2.2, served=1.0),
        "b": kind(nfe=0.7),
        "c": kind(nfe=1.04, concept=0.9),
        "d": kind(nfe=1.2, served=0.9),
    }
    # b costs less than c, but not by a whole generation
    assert ladder(seen, []) == ("d", "c", "b", "a", "d", *LAST_RESORT)


def test_of_those_that_serve_alike_as_far_as_the_sample_tells_the_one_nearer_to_the_concept_comes_first():
    seen = {
        "best": kind(served=0.9, concept=0.8),
        "alike": kind(served=0.8, upper=0.95, concept=0.9),
        "worse": kind(served=0.7, upper=0.85, concept=0.95),
    }
    assert ladder(seen, []) == ("alike", "best", "worse", "alike", *LAST_RESORT)


def test_what_settles_too_little_and_the_last_resort_are_no_rungs():
    seen = {"a": kind(), "weak": kind(passed=LEAST - 0.01, served=1.0), "resample": kind(served=1.0)}
    assert ladder(seen, []) == ("a", "a", *LAST_RESORT)
    assert ladder({"weak": kind(passed=0.1)}, []) == LAST_RESORT
    assert ladder({"never flagged": kind() | {"passed": None}}, []) == LAST_RESORT


def test_a_rung_that_makes_the_pictures_of_one_before_it_is_left_out():
    seen = {"a": kind(served=0.9), "twin": kind(served=0.8), "b": kind(served=0.7)}
    made_rows = [*rows("a", "xyz"), *rows("twin", "xyw"), *rows("b", "uvx")]
    assert ladder(seen, made_rows) == ("a", "b", "a", *LAST_RESORT)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("xy", "xz", True),
        ("xyz", "xuv", False),
        (["x", None], ["x", "y"], True),
        ([None, "x"], ["x", None], False),
    ],
)
def test_alike_are_two_that_settle_half_of_what_both_settle_with_the_same_picture(first, second, same):
    assert make_same_pictures([*rows("one", first), *rows("other", second)], "one", "other") is same


def test_no_more_than_five_different_rungs_come_before_the_first_has_another_turn():
    seen = {name: kind(served=1 - i / 10) for i, name in enumerate("abcdefg")}
    assert ladder(seen, []) == (*"abcde", "a", *LAST_RESORT)


def test_a_rung_that_needs_an_encoder_is_none_of_the_default_ladders():
    seen = {"final-latent-encoder+condition": kind(served=1.0), "condition": kind()}
    assert ladder(seen, []) == ("condition", "condition", *LAST_RESORT)
