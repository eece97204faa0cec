"""The figures of single strategies are counted as the page says, and the pages of these benchmarks say what
was measured.
"""

from __future__ import annotations

import json
import sys

import pytest
from PIL import Image

from steerclear.nudge.condition import ConditionNudge, Rewrite
from steerclear_lab.bench import optimisers, preferring, rungs
from steerclear_lab.bench.sheets import strategy_sheet
from steerclear_lab.bench.strategy_figures import figures, figures_table
from steerclear_lab.bench.trials import FIRST_SEED, Trial, attempt, trials


def row(label="a", prompt="p", outcome="steered", file="mascot-acme.png", rank=0, same=False, **more):
    fields = {
        "label": label,
        "prompt": prompt,
        "file": file,
        "seed": 1,
        "outcome": outcome,
        "overhead": 1.04,
        "rung_nfe": 1.0,
        "seconds": 0.5,
        "iterations": 7,
        "halved": 2,
        "ended": ["enough"],
        "J": [-0.5],
        "said": "so",
    }
    if outcome in ("steered", "plain"):
        fields |= {
            "rank": rank,
            "same_picture": same,
            "concept": 0.5,
            "alignment": 0.4,
            "bystander": 0.3,
            "style": True,
            "sha256": prompt + label,
        }
    return fields | more


def test_shares_are_of_what_the_page_says_they_are_of():
    rows = [
        row(prompt="p1"),
        row(prompt="p2", rank=9),
        row(prompt="p3", outcome="withheld"),
        row(prompt="p4", same=True),
        row(prompt="p5", file="photo-clock.png", rank=None, concept=None, style=None),
        row(prompt="p6", outcome="clear"),
    ]
    shares = figures(rows)
    assert (shares["flagged"], shares["prompts"]) == (5, 5)
    assert shares["passed"][0] == pytest.approx(4 / 5)
    assert shares["served"][0] == pytest.approx(1 / 4)  # a photograph has no concept, a copy serves nobody
    assert shares["concept_top5"][0] == pytest.approx(2 / 3, abs=1e-4)
    assert shares["same_picture"][0] == pytest.approx(1 / 4)
    assert shares["overhead"] == 1.04
    low, high = shares["passed"][1:]
    assert low <= shares["passed"][0] <= high


def test_prompts_count_alike_however_many_seeds_each_has():
    rows = [row(prompt="p1"), row(prompt="p1"), row(prompt="p1"), row(prompt="p2", outcome="withheld")]
    assert figures(rows)["passed"][0] == 0.5


def test_nothing_flagged_has_no_figures_and_no_error():
    shares = figures([row(outcome="clear")])
    assert shares["flagged"] == 0
    assert shares["passed"] is None
    assert "–" in figures_table({"a": shares}, {"passed": "passed"}, "way").splitlines()[-1]


def test_every_kind_is_tried_on_every_prompt_and_seed_drawn_by_nothing_else():
    planned = trials([Trial("a", None), Trial("b", Rewrite(), prefer="samples")], seeds=2, prompts=3)
    assert len(planned) == len({(t.label, t.prompt, t.seed) for t in planned}) == 12
    assert {t.seed for t in planned} == {FIRST_SEED, FIRST_SEED + 1}
    assert {t.prefer for t in planned if t.label == "b"} == {"samples"}
    assert {t.file[:5] for t in planned} == {"masco", "photo"}


def test_a_trial_that_stands_in_two_tables_is_run_once_and_shown_in_both():
    tables = preferring.kinds()
    run = preferring.once(tables)
    assert len({t.label for t in run}) == len(run) < 1 + sum(map(len, tables.values()))
    rows = [row(t.label, p) for t in run for p in ("p1", "p2")]
    summary = preferring.summarised(tables, rows)
    assert {name: len(some) for name, some in summary.items()} == {
        name: len(some) + (i == 0) for i, (name, some) in enumerate(tables.items())
    }
    document = {
        "environment": {},
        "plan": {"prompts": 2, "seeds": 1},
        "command": "python -m x",
        "style_accuracy": 0.9,
        "summary": summary,
    }
    text = preferring.page(document)
    for some in tables.values():
        for trial in some:
            assert f"| {trial.label.split(': ', 1)[1]} |" in text
    assert "Made by `python -m x`" in text


def test_the_default_is_named_beside_the_best_way_without_labels():
    tables = preferring.kinds()
    best = "the despecified prompt"
    rows = [
        row(t.label, "p1", rank=0 if best in t.label or "user" in t.label else 9)
        for t in preferring.once(tables)
    ]
    said = preferring.supported(preferring.summarised(tables, rows))
    assert f"“{best}”, 1.00; by the default 0.00" in said
    assert "user" not in said


def test_the_page_of_optimisers_shows_every_setting_with_what_its_descents_did():
    tables = optimisers.kinds()
    run = [Trial(optimisers.PLAIN, None), *(t for some in tables.values() for t in some)]
    assert len({t.label for t in run}) == len(run)
    rows = [row(t.label, p, ended=["not finite", "enough"]) for t in run for p in ("p1", "p2")]
    summary = optimisers.summarised(tables, rows)
    document = {
        "environment": {},
        "plan": {"prompts": 2, "seeds": 1},
        "command": "python -m x",
        "summary": summary,
    }
    text = optimisers.page(document)
    assert text.count("(default) |") == 2
    for trial in run[1:]:
        assert f"| {trial.label.split(': ', 1)[1]} |" in text
    for some in summary.values():
        for shares in some.values():
            assert (
                shares["iterations"],
                shares["halved"],
                shares["not_finite"],
                shares["enough"],
                shares["flat"],
            ) == (
                7,
                2,
                2,
                2,
                0,
            )
            assert shares["seconds_ratio"] == 1.0


def test_the_default_stands_unless_another_serves_clearly_more():
    def served(*values):
        return {"served": list(values), "seconds": 1.0}

    alike = {"a (default)": served(0.5, 0.3, 0.7), "b": served(0.5, 0.3, 0.7)}
    assert optimisers.supported(alike)[0] == "a (default)"
    more = {**alike, "c": served(0.6, 0.4, 0.8)}
    assert "so the default stands" in optimisers.supported(more)[1]
    clearly = {**alike, "d": served(0.9, 0.6, 1.0)}
    assert "should become the default" in optimisers.supported(clearly)[1]


def test_a_sheet_has_a_row_for_each_prompt_and_a_column_for_each_label(tmp_path):
    (trial,) = trials([Trial("a", None)], 1, 1)
    strategy_sheet(
        {(trial.prompt, "a"): Image.new("RGB", (64, 64), "red"), (trial.prompt, "b"): None},
        ["a", "b"],
        tmp_path / "s.png",
    )
    with Image.open(tmp_path / "s.png") as drawn:
        assert drawn.size == (3 * 66, 14 + 66)


@pytest.mark.slow
def test_one_planted_request_is_tried_and_judged():
    kinds = [
        Trial("plain", None),
        Trial("nudged", ConditionNudge()),
        Trial("folder", ConditionNudge(), picture_prefix="flat-"),
    ]
    rows = [attempt(t)[0] for t in trials(kinds, 1, 1)]
    assert [r["outcome"] for r in rows] == ["plain", "steered", "steered"]
    assert rows[0]["same_picture"]
    assert rows[1]["iterations"] > 0
    assert all(r["style"] in (True, False) for r in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bench", "name", "words"),
    [
        (rungs, "rungs", ["--only", "rewrite", "condition", "trajectory-encoder+condition"]),
        (optimisers, "optimisers", []),
        (preferring, "preferring", []),
    ],
)
def test_a_benchmark_writes_its_page_and_every_row(bench, name, words, tmp_path, monkeypatch):
    monkeypatch.setattr(optimisers, "RATES", (0.05, 0.2))
    monkeypatch.setattr(optimisers, "ITERATIONS", (10,))
    monkeypatch.setattr(sys, "argv", [name, "--prompts", "1", "--out", str(tmp_path), *words])
    bench.main()
    document = json.loads((tmp_path / f"{name}.json").read_text())
    assert bench.page(document) == (tmp_path / f"{name}.md").read_text()
    assert {r["prompt"] for r in document["rows"]} == {trials([Trial("a", None)], 1, 1)[0].prompt}
    assert (tmp_path / f"{name}.png").exists() == (name != "optimisers")
