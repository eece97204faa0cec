"""`steerclear train-emoji`: the options reach the recipe."""

from __future__ import annotations

import json
from pathlib import Path

from steerclear.emoji import recipe


def test_the_options_reach_the_recipe_and_the_evaluation(run, monkeypatch):
    calls = []
    monkeypatch.setattr(recipe, "cook", lambda *options: calls.append(options[:4]))
    monkeypatch.setattr(
        "steerclear.emoji.evaluate.evaluate",
        lambda *folders: {"folders": [str(one) for one in folders], "kid": float("nan")},
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


def test_a_missing_extra_is_named(run, monkeypatch):
    def cook(*options):
        raise ModuleNotFoundError("No module named 'resvg_py'", name="resvg_py")

    monkeypatch.setattr(recipe, "cook", cook)
    result = run("train-emoji")
    assert result.code == 2
    assert "'resvg_py', which is not installed; run: pip install 'steerclear[train]'" in result.stderr
