"""`--help`: quick, and its examples run as they stand."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_doubles import stand_in

from steerclear import __version__, embedded
from steerclear.cli import main

COMMANDS = ("generate", "check", "replay", "calibrate", "train-emoji")


def help_of(capsys, *words):
    capsys.readouterr()
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.fixture(params=["tiny", pytest.param("embedded", marks=pytest.mark.slow)])
def desk(request, shelf, tmp_path, monkeypatch):
    """A folder that holds what the examples name, with the embedded model or a tiny one in its place."""
    if request.param == "tiny":
        stand_in(shelf, monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(embedded.MODEL_FOLDER)
    shutil.copytree(embedded.LIBRARY_FOLDER, "protected")
    Path("prompts.txt").write_text("a cat, noto style\n\na bear, noto style\n")
    assert main(["generate", "a cat, noto style", "--out", "first"]) == 0
    Path("ordinary.txt").write_text("a cat, noto style\na bear, noto style\n")
    Path("photos").mkdir()
    for name in ("picture.png", "sketch.png", "photos/garden.png", "photos/street.png"):
        shutil.copy("first/0000-0.png", name)
    return tmp_path


def test_every_example_in_the_help_runs(desk, capsys, monkeypatch):
    cooked = []
    monkeypatch.setattr("steerclear_lab.emoji.recipe.cook", lambda *options: cooked.append(options))
    monkeypatch.setattr("steerclear_lab.emoji.evaluate.evaluate", lambda *folders: {"figure": 1.0})
    for command in COMMANDS:
        examples = [
            line.strip() for line in help_of(capsys, command).splitlines() if line.startswith("  steerclear ")
        ]
        assert examples, command
        for example in examples:
            words = shlex.split(example)
            assert words[:2] == ["steerclear", command]
            assert main(words[1:]) in (0, 3), (example, capsys.readouterr().err)
    assert len(cooked) == 3


def test_help_of_the_whole_names_every_command(capsys):
    text = help_of(capsys)
    for command in (*COMMANDS, "bench", "library"):
        assert f"\n  {command} " in text
    assert main([]) == 0
    assert capsys.readouterr().out == text
    assert "search" in help_of(capsys, "library")


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"steerclear {__version__}\n"


HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "lancedb",
    "pyarrow",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "huggingface_hub",
)
MOST_MODULES = (
    500  # numpy has 140 and torch 950 more; counted, since a clock also tells what else the machine does
)


def test_help_takes_no_time_since_it_loads_nothing_heavy():
    code = (
        "import sys, steerclear\n"
        "from steerclear.cli import main\n"
        "main(['generate', '--help'])\n"
        f"found = [m for m in {HEAVY} if m in sys.modules]\n"
        f"sys.exit(str(found or len(sys.modules)) if found or len(sys.modules) > {MOST_MODULES} else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
