"""The benchmark of subjects counts what it says."""

from __future__ import annotations

from PIL import Image

from steerclear_lab.bench.subjects import figures, same_pairs, summary


def row(number, picture, *, cost=1.0, rank=0, seed=1, copies=()):
    handed = picture is not None
    return {
        "number": number,
        "prompt": f"p{number}",
        "file": f"{number}.png",
        "seed": seed,
        "outcome": "steered" if handed else "withheld",
        "overhead": cost,
        "picture": picture,
        **({"copies": list(copies), "bystander_rank": rank, "bystander_alignment": 0.5} if handed else {}),
    }


def plain(colour):
    return Image.new("RGB", (64, 64), colour)


def test_pairs_of_different_subjects_with_one_picture_are_counted_within_a_seed():
    rows = [row(0, plain("red")), row(1, plain("red")), row(2, plain("blue")), row(3, plain("red"), seed=2)]
    assert same_pairs(rows) == 1


def test_what_is_withheld_counts_against_no_concept_and_a_copy_is_counted():
    rows = [
        row(0, plain("red"), rank=4),
        row(1, plain("blue"), rank=5, copies=["pixel"]),
        row(2, None, cost=9.0),
    ]
    counted = figures(rows)
    assert (counted["withheld"], counted["copies"], counted["ranked"]) == (1, 1, 2)
    assert counted["bystander_top5"] == 0.5
    assert (counted["cost_median"], counted["cost_p95"]) == (1.0, 9.0)
    assert counted["own_top5"] is None


def test_what_rules_were_chosen_on_is_reported_apart():
    rows = [row(0, plain("red")), row(1, None)]
    parts = summary(rows, halves=True)
    assert (parts["chosen on"]["withheld"], parts["reported"]["withheld"]) == (0, 1)
    assert summary(rows, halves=False)["all"]["requests"] == 2
