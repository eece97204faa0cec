"""`steerclear train-emoji`: the options reach the recipe."""

from __future__ import annotations

import json
from pathlib import Path

from steerclear_lab.emoji import recipe


def test_the_options_reach_the_recipe_and_the_evaluation(run, monkeypatch):
    calls = []

    def run_stages(preset, *, work, out, stages, report, parts):
        calls.append((preset, work, out, stages))

    monkeypatch.setattr(recipe, "run_stages", run_stages)
    monkeypatch.setattr(
        "steerclear_lab.emoji.evaluate.evaluate",
        lambda *folders: {"folders": [str(folder) for folder in folders], "kid": float("nan")},
    )
    assert run("train-emoji").code == 0
    result = run(
        "train-emoji",
        "--work",
        "w",
        "--out",
        "o",
        "--stage",
        "clip",
        "--stage",
        "export",
        "--preset",
        "gpu",
        "--evaluate",
    )
    assert result.code == 0
    assert json.loads(result.stdout) == {"folders": ["o", "w/evaluation", "w"], "kid": None}
    assert calls == [
        (recipe.PRESETS["cpu"], Path("runs/emoji"), Path("runs/emoji/finished"), recipe.STAGES),
        (recipe.PRESETS["gpu"], Path("w"), Path("o"), ("clip", "export")),
    ]


def test_only_the_siblings_that_were_named_are_measured(run, monkeypatch):
    calls = []
    monkeypatch.setattr(recipe, "run_stages", lambda *args, **options: None)
    monkeypatch.setattr("steerclear_lab.emoji.evaluate.evaluate", lambda *folders: {"whole": 1})
    monkeypatch.setattr(
        "steerclear_lab.emoji.sibling_figures.evaluate",
        lambda name, *folders: calls.append(folders) or {"n": name},
    )
    result = run("train-emoji", "--work", "w", "--out", "o", "--stage", "dit", "--evaluate")
    assert json.loads(result.stdout) == {"dit": {"n": "dit"}}
    assert calls == [(Path("o"), Path("w/evaluation"), Path("w"))]
    both = run("train-emoji", "--stage", "export", "--stage", "flow", "--evaluate")
    assert json.loads(both.stdout) == {"whole": 1, "flow": {"n": "flow"}}


def test_the_bystander_alone_is_measured_without_the_model(run, monkeypatch):
    monkeypatch.setattr(recipe, "run_stages", lambda *args, **options: None)
    monkeypatch.setattr("steerclear_lab.emoji.bystander.evaluate", lambda *folders: {"top5": 1})
    result = run("train-emoji", "--work", "w", "--out", "o", "--stage", "bystander", "--evaluate")
    assert json.loads(result.stdout) == {"bystander": {"top5": 1}}


def test_a_missing_extra_is_named(run, monkeypatch):
    def run_stages(*args, **options):
        raise ModuleNotFoundError("No module named 'resvg_py'", name="resvg_py")

    monkeypatch.setattr(recipe, "run_stages", run_stages)
    result = run("train-emoji")
    assert result.code == 2
    assert "'resvg_py', which is not installed; run: pip install 'steerclear-lab[train]'" in result.stderr
