"""The laboratory adds its commands to `steerclear`; their help and their errors."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from steerclear_lab.emoji import recipe


def test_help_of_the_whole_names_the_laboratorys_commands_after_the_products(run):
    names = [line.split()[0] for line in run("--help").stdout.partition("Commands:\n")[2].splitlines()]
    assert names.index("calibrate") < names.index("bench") < names.index("train-emoji")
    assert "steerclear bench --quick" in run("bench", "--help").stdout


def test_every_example_in_the_help_of_train_emoji_runs(run, monkeypatch):
    calls = []
    monkeypatch.setattr(recipe, "run_stages", lambda *names, **options: calls.append(options))
    monkeypatch.setattr("steerclear_lab.emoji.evaluate.evaluate", lambda *folders: {"figure": 1.0})
    help_text = run("train-emoji", "--help").stdout
    lines = [line.strip() for line in help_text.splitlines() if line.startswith("  steerclear ")]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["steerclear", "train-emoji"]
        assert run(*words[1:]).code == 0, line
    assert len(calls) == len(lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train-emoji", "--work", "file/below"], "--work 'file/below'"),
        (["train-emoji", "--out", "file"], "--out 'file' is a file"),
        (["train-emoji", "--stage", "dinner"], "unknown stage 'dinner'"),
        (["train-emoji", "--preset", "tpu"], "'tpu'"),
        (["bench", "--out", "file"], "--out 'file' is a file"),
        (["bench", "--steps", "many"], "'many'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_and_nothing_is_written(run, words, message):
    Path("file").write_text("a file")
    result = run(*words)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert [path.name for path in Path().iterdir()] == ["file"]
