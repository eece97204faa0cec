"""`steerclear calibrate`: a stated rate, the evidence for it, and a guard that uses it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steerclear.library import Library


@pytest.fixture
def library(here, assets):
    """A library that may be written to, and a folder of 30 clean pictures."""
    shutil.copytree(assets / "library", here / "own")
    (here / "clean").mkdir()
    draw = np.random.default_rng(0)
    for i in range(30):
        pixels = np.kron(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        Image.fromarray(pixels).save(here / "clean" / f"{i}.png")
    return here / "own"


def test_thresholds_flag_at_most_the_stated_rate_and_the_library_keeps_them_with_their_evidence(
    run, here, library
):
    result = run("calibrate", "--library", library, "--clean", "clean", "--fpr", "0.1", "--out", "evidence")
    assert (result.code, result.stderr) == (0, "")
    note = Library.open(library).read_note("calibration")
    written = json.loads((here / "evidence" / "calibration.json").read_text())
    assert {**written, "scores": None} == {**note, "scores": None}
    for name, row in note["evidence"]["by_filter"].items():
        scores = written["scores"]["clean"][name]
        assert len(scores) == row["n"] == 30
        assert sum(s >= note["thresholds"][name] for s in scores) == row["exceeding"]
        assert row["upper"] <= 0.1
        assert note["strict"][name] <= note["thresholds"][name]
    assert note["evidence"]["encoders"][0].startswith("'descriptor'")
    assert note["evidence"]["copies"] == 4  # altered copies of the one protected picture
    for name in ("histograms.png", "roc.png"):
        with Image.open(here / "evidence" / name) as figure:
            assert min(figure.size) > 300
    assert run("check", "clean/3.png", "--library", library).code in (0, 3)


def test_too_few_clean_pictures_are_warned_of_and_none_of_them_is_flagged(run, library):
    result = run("calibrate", "--library", library, "--clean", "clean", "--fpr", "0.01")
    assert result.code == 0
    assert "30 clean pictures are too few to promise 1.00%: it takes 299" in result.stderr
    rows = Library.open(library).read_note("calibration")["evidence"]["by_filter"].values()
    assert {row["exceeding"] for row in rows} == {0}


def test_clean_pictures_may_be_generated_from_prompts(run, here, library):
    (here / "prompts.txt").write_text("a bear\nan owl\n")
    options = ("--steps", "2", "--seeds", "0-2", "--fpr", "0.4")
    assert run("calibrate", "--library", library, "--clean", "prompts.txt", *options).code == 0
    assert Library.open(library).read_note("calibration")["evidence"]["clean"] == 6


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--clean", "nowhere"), "nowhere"),
        (("--clean", "clean", "--fpr", "2"), "false-positive rate is 2"),
        (("--clean", "empty"), "no pictures"),
        (("--clean", "clean", "--library", "nowhere"), "nowhere"),
        (("--clean", "broken"), "broken"),
        (("--clean", "clean", "--seeds", "x"), "seeds"),
    ],
)
def test_bad_input_is_named_and_the_old_thresholds_stay(run, here, library, words, named):
    (here / "empty").mkdir()
    (here / "broken").mkdir()
    (here / "broken" / "a.png").write_bytes(b"no picture")
    before = Library.open(library).read_note("calibration")
    result = run("calibrate", "--library", library, *words)
    assert result.code == 2
    assert named in result.stderr
    assert Library.open(library).read_note("calibration") == before


def test_neither_importing_nor_running_it_needs_the_laboratory(assets, here, library):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from cli_doubles import stand_in; from pathlib import Path; stand_in(Path(sys.argv[2]))\n"
        "from steerclear.cli import main\n"
        "code = main(['calibrate', '--library', 'own', '--clean', 'clean', '--fpr', '0.1'])\n"
        "laboratory = [name for name in sys.modules if name.startswith('steerclear_lab')]\n"
        "sys.exit(str(laboratory) if laboratory else code)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(assets)]
    ended = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert (here / "calibration" / "roc.png").exists()


def test_what_the_extra_brings_is_named_where_it_is_missing(run, library, monkeypatch):
    monkeypatch.setattr("steerclear.cli.calibrate.NEEDED", ("scipy", "no_such_package"))
    result = run("calibrate", "--library", library, "--clean", "clean")
    assert result.code == 2
    assert "needs no_such_package; run: pip install 'steerclear[calibrate]'" in result.stderr
