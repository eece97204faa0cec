"""`steerclear calibrate`: a stated rate, the evidence for it, and a guard that uses it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_doubles import ENCODER
from PIL import Image, ImageOps

from steerclear.library import Library
from steerclear.library.images import square_tensor, thumbnail
from steerclear.library.schema import Entry, Item


@pytest.fixture
def library(here, assets):
    """A library that may be written to, and a folder of 30 clean pictures."""
    shutil.copytree(assets / "library", here / "own")
    shutil.copytree(assets / "art", here / "art")
    (here / "clean").mkdir()
    draw = np.random.default_rng(0)
    for i in range(30):
        pixels = np.kron(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        Image.fromarray(pixels).save(here / "clean" / f"{i}.png")
    return here / "own"


def add_blank(library):
    """Protect a white picture as well, as libraries may from before such pictures were refused."""
    picture = Image.new("RGB", (64, 64), "white")
    item = Item(id="blank", source="blank.png", sha256="0" * 64, phash="0" * 16)
    vector = ENCODER(square_tensor(picture, ENCODER.size)[None])[0]
    Library.open(library).insert([Entry(item, thumbnail(picture), {ENCODER.name: vector})])


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
    assert note["strict"]["copy"] >= 0.93
    assert note["thresholds"]["copy"] >= 1
    for name in ("histograms.png", "roc.png"):
        with Image.open(here / "evidence" / name) as figure:
            assert min(figure.size) > 300
    assert run("check", "clean/3.png", "--library", library).code in (0, 3)


def test_too_few_clean_pictures_are_warned_of_and_none_of_them_is_flagged(run, library):
    result = run("calibrate", "--library", library, "--clean", "clean", "--fpr", "0.01")
    assert result.code == 0
    assert "30 clean pictures are too few to promise 1.00 %: it takes 299" in result.stderr
    rows = Library.open(library).read_note("calibration")["evidence"]["by_filter"].values()
    assert {row["exceeding"] for row in rows} == {0}


def test_what_the_filters_see_is_told_kind_by_kind_and_so_is_what_they_are_blind_to(run, library):
    add_blank(library)  # its negative resembles nothing that is protected
    result = run("calibrate", "--library", library, "--clean", "clean", "--fpr", "0.1")
    evidence = Library.open(library).read_note("calibration")["evidence"]
    table = evidence["by_alteration"]
    assert (evidence["items"], evidence["items_altered"]) == (2, 2)
    assert sum(row["copies"] for row in table.values()) == evidence["copies"]
    assert "altered copies of the 2 protected pictures" in result.stdout
    lines = result.stdout.splitlines()
    [blind] = [line for line in lines if line.startswith("blind to: ")]
    assert "negative (50 %)" in blind
    for kind, row in table.items():
        [line] = [line for line in lines if line.startswith(f"{kind}  ")]
        assert f"{100 * row['flagged'] // row['copies']} %" in line
        assert (f"{kind} (" in blind) == (row["flagged"] < 0.9 * row["copies"])


def test_a_clean_picture_that_shows_a_protected_one_is_left_out_and_kept_to_be_looked_at(run, here, library):
    shown = Image.open(library.parent / "art" / "copied.png")
    ImageOps.mirror(shown).save(here / "clean" / "holiday.png")
    result = run("calibrate", "--library", library, "--clean", "clean", "--fpr", "0.1", "--out", "evidence")
    evidence = Library.open(library).read_note("calibration")["evidence"]
    assert (evidence["clean"], evidence["left_out"]) == (30, 1)
    assert "1 of the clean pictures shows a protected picture, it seems, and is left out" in result.stdout
    assert "evidence/likely-copies/0.png shows 'copied': it is clean/holiday.png" in result.stdout
    with Image.open(here / "evidence" / "likely-copies" / "0.png") as kept:
        assert np.array_equal(kept, ImageOps.mirror(shown))


def test_so_many_pictures_are_altered_as_were_asked_for_and_one_with_nothing_in_it_is_named(run, library):
    add_blank(library)
    result = run("calibrate", "--library", library, "--clean", "clean", "--fpr", "0.1", "--copies-of", "1")
    assert "altered copies of 1 of the 2 protected pictures" in result.stdout
    assert "too plain for `copy` to recognise once altered: blank" in result.stdout
    evidence = Library.open(library).read_note("calibration")["evidence"]
    assert evidence["by_alteration"]["mirror"]["copies"] == 1
    assert evidence["unrecognisable"] == ["blank"]


def test_given_copies_are_counted_beside_the_altered_ones(run, library):
    words = ("--clean", "clean", "--copies", library.parent / "art", "--fpr", "0.1")
    result = run("calibrate", "--library", library, *words)
    assert "given copies flagged" in result.stdout
    evidence = Library.open(library).read_note("calibration")["evidence"]
    assert (evidence["copies"], evidence["copies_flagged"]) == (1, 1.0)
    assert evidence["by_alteration"]["mirror"]["copies"] == 1


@pytest.mark.parametrize("choice", ["varied", "fixed"])
def test_clean_pictures_may_be_generated_from_prompts(run, here, library, choice):
    (here / "prompts.txt").write_text("a bear\nan owl\n")
    options = ("--steps", "2", "--guidance", "4", "--seeds", "0-2", "--fpr", "0.4", "--settings", choice)
    result = run("calibrate", "--library", library, "--clean", "prompts.txt", *options)
    assert result.code == 0
    evidence = Library.open(library).read_note("calibration")["evidence"]
    assert evidence["clean"] == 6
    assert evidence["settings"]["guidance"] == ([4, 2, 8] if choice == "varied" else [4])
    assert evidence["settings"]["sizes"][:1] == ["native"]
    assert f"guidance {'4, 2, 8' if choice == 'varied' else '4'}; size native" in result.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--clean", "nowhere"), "nowhere"),
        (("--clean", "clean", "--fpr", "2"), "false-positive rate is 2"),
        (("--clean", "empty"), "no pictures"),
        (("--clean", "clean", "--library", "nowhere"), "nowhere"),
        (("--clean", "broken"), "broken"),
        (("--clean", "clean", "--seeds", "x"), "seeds"),
        (("--clean", "clean", "--copies-of", "0"), "--copies-of is 0"),
        (("--clean", "clean", "--settings", "random"), "random"),
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
