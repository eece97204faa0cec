"""`steerclear calibrate`: a stated rate, the evidence for it, and a guard that uses it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from cli_doubles import ENCODER
from PIL import Image, ImageOps

from steerclear import Guard
from steerclear.library import Library, add
from steerclear.library.images import square_tensor, thumbnail
from steerclear.library.schema import Entry, Item
from steerclear.testing import tiny_pipeline


class Calibrated(NamedTuple):
    """A library after `steerclear calibrate` in `folder`, and what the command printed."""

    folder: Path
    code: int
    stdout: str
    stderr: str

    @property
    def library(self) -> Path:
        return self.folder / "own"

    @property
    def note(self) -> dict:
        return Library.open(self.library).read_note("calibration")


def furnish(folder, assets):
    """Write `own`, a library that may be written to, `art`, its picture, and `clean`, 12 clean pictures."""
    shutil.copytree(assets / "library", folder / "own")
    shutil.copytree(assets / "art", folder / "art")
    (folder / "clean").mkdir()
    draw = np.random.default_rng(0)
    for i in range(12):
        pixels = np.kron(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        Image.fromarray(pixels).save(folder / "clean" / f"{i}.png")


def add_blank(library):
    """Protect a white picture as well, as libraries may from before such pictures were refused."""
    picture = Image.new("RGB", (64, 64), "white")
    item = Item(id="blank", source="blank.png", sha256="0" * 64, phash="0" * 16)
    vector = ENCODER(square_tensor(picture, ENCODER.size)[None])[0]
    Library.open(library).insert([Entry(item, thumbnail(picture), {ENCODER.name: vector})])


def calibrated(folder, assets, *words):
    """Calibrate `own` in a process of its own, in which nothing of the laboratory can be imported."""
    code = (
        "import sys; sys.modules['steerclear_lab'] = None; sys.path.insert(0, sys.argv[1])\n"
        "from cli_doubles import stand_in; from pathlib import Path; stand_in(Path(sys.argv[2]))\n"
        "from steerclear.cli import main; sys.exit(main(['calibrate', '--library', 'own', *sys.argv[3:]]))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(assets), *words]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return Calibrated(folder, code=ended.returncode, stdout=ended.stdout, stderr=ended.stderr)


@pytest.fixture(scope="module")
def on_pictures(assets, tmp_path_factory):
    """Calibrated on 12 clean pictures and a mirrored copy among them; a white picture is protected too."""
    folder = tmp_path_factory.mktemp("on-pictures")
    furnish(folder, assets)
    add_blank(folder / "own")
    ImageOps.mirror(Image.open(folder / "art" / "copied.png")).save(folder / "clean" / "holiday.png")
    return calibrated(folder, assets, "--clean", "clean", "--fpr", "0.35", "--out", "evidence")


@pytest.fixture
def library(here, assets):
    """A library that may be written to, beside a folder of clean pictures."""
    furnish(here, assets)
    return here / "own"


def test_it_runs_without_the_laboratory(on_pictures):
    assert (on_pictures.code, on_pictures.stderr) == (0, "")


def test_thresholds_flag_at_most_the_stated_rate_and_the_library_keeps_them_with_their_evidence(
    run, on_pictures
):
    note = on_pictures.note
    written = json.loads((on_pictures.folder / "evidence" / "calibration.json").read_text())
    assert {**written, "scores": None} == {**note, "scores": None}
    for name, row in note["evidence"]["by_filter"].items():
        scores = written["scores"]["clean"][name]
        assert len(scores) == row["n"] == 12
        assert sum(s >= note["thresholds"][name] for s in scores) == row["exceeding"]
        assert row["upper"] <= 0.35
        assert note["strict"][name] <= note["thresholds"][name]
    assert note["evidence"]["encoders"][0].startswith("'descriptor'")
    assert note["strict"]["copy"] >= 0.93
    assert note["thresholds"]["copy"] >= 1
    for name in ("histograms.png", "roc.png"):
        with Image.open(on_pictures.folder / "evidence" / name) as figure:
            assert min(figure.size) > 300
    picture = on_pictures.folder / "clean" / "3.png"
    assert run("check", picture, "--library", on_pictures.library).code in (0, 3)


def test_what_the_filters_see_is_told_kind_by_kind_and_so_is_what_they_are_blind_to(on_pictures):
    evidence = on_pictures.note["evidence"]
    table = evidence["by_alteration"]
    assert (evidence["items"], evidence["items_altered"]) == (2, 2)
    assert sum(row["copies"] for row in table.values()) == evidence["copies"]
    assert "altered copies of the 2 protected pictures" in on_pictures.stdout
    lines = on_pictures.stdout.splitlines()
    [blind] = [line for line in lines if line.startswith("blind to: ")]
    assert "negative (50 %)" in blind  # that of the white picture resembles nothing that is protected
    for kind, row in table.items():
        [line] = [line for line in lines if line.startswith(f"{kind}  ")]
        assert f"{100 * row['flagged'] // row['copies']} %" in line
        assert (f"{kind} (" in blind) == (row["flagged"] < 0.9 * row["copies"])


def test_a_protected_picture_with_nothing_in_it_is_named(on_pictures):
    assert "blank, so that `copy` cannot recognise them: blank" in on_pictures.stdout
    assert on_pictures.note["evidence"]["unrecognisable"] == ["blank"]
    assert on_pictures.note["evidence"]["plain"] == []


def test_a_protected_flag_is_named_as_too_plain(run, here, library):
    flag = Image.new("RGB", (64, 64), "white")
    flag.paste((206, 17, 38), (0, 32, 64, 64))
    (here / "flags").mkdir()
    flag.save(here / "flags" / "poland.png")
    add(Library.open(library), [here / "flags"], [ENCODER])
    result = run("calibrate", "--library", library, "--clean", "clean", "--fpr", "0.35", "--copies-of", "1")
    assert "too plain: only nearly unaltered copies are sure to be found of poland\n" in result.stdout


def test_a_clean_picture_that_shows_a_protected_one_is_left_out_and_kept_to_be_looked_at(on_pictures):
    evidence = on_pictures.note["evidence"]
    assert (evidence["clean"], evidence["left_out"]) == (12, 1)
    assert (
        "1 of the clean pictures shows a protected picture, it seems, and is left out" in on_pictures.stdout
    )
    assert "evidence/likely-copies/0.png shows 'copied': it is clean/holiday.png" in on_pictures.stdout
    shown = Image.open(on_pictures.folder / "art" / "copied.png")
    with Image.open(on_pictures.folder / "evidence" / "likely-copies" / "0.png") as kept:
        assert np.array_equal(kept, ImageOps.mirror(shown))


def test_so_many_pictures_are_altered_as_were_asked_for_and_given_copies_and_negatives_are_counted(
    run, here, library
):
    add_blank(library)
    (here / "negatives").mkdir()
    ImageOps.mirror(Image.open(here / "art" / "copied.png")).save(here / "negatives" / "neg-1.png")
    words = ("--clean", "clean", "--copies", here / "art", "--fpr", "0.35", "--copies-of", "1")
    words = (*words, "--negatives", "negatives")
    result = run("calibrate", "--library", library, *words)
    assert "altered copies of 1 of the 2 protected pictures" in result.stdout
    assert "given copies flagged" in result.stdout
    evidence = Library.open(library).read_note("calibration")["evidence"]
    assert (evidence["copies"], evidence["copies_flagged"]) == (1, 1.0)
    assert evidence["by_alteration"]["mirror"]["copies"] == 1
    assert (evidence["clean"], evidence["negatives"], evidence["left_out"]) == (13, 1, 0)
    assert f"{evidence['negatives_flagged']} of them are flagged" in result.stdout


@pytest.mark.parametrize("choice", ["varied", pytest.param("fixed", marks=pytest.mark.slow)])
def test_clean_pictures_may_be_generated_from_prompts_and_too_few_of_them_are_warned_of(
    run, here, library, choice
):
    (here / "prompts.txt").write_text("a bear\nan owl\n")
    options = ("--steps", "2", "--guidance", "4", "--seeds", "0-2", "--fpr", "0.01", "--settings", choice)
    result = run("calibrate", "--library", library, "--clean", "prompts.txt", *options)
    assert result.code == 0
    assert "6 clean pictures are too few to promise 1.00 %: it takes 299" in result.stderr
    evidence = Library.open(library).read_note("calibration")["evidence"]
    assert {row["exceeding"] for row in evidence["by_filter"].values()} == {0}
    assert evidence["clean"] == 6
    assert evidence["settings"]["guidance"] == ([4, 2, 8] if choice == "varied" else [4])
    assert evidence["settings"]["sizes"][:1] == ["native"]
    assert f"guidance {'4, 2, 8' if choice == 'varied' else '4'}; size native" in result.stdout
    guard = Guard.default(library=library)
    assert set(guard.alternatives) <= {"a bear", "an owl"}
    assert guard.alternatives == guard.ordinary.clear
    assert -1 <= guard.ordinary.similarity_at(4.0) <= 1
    # what is noted belongs to this model alone
    other = Guard.wrap(tiny_pipeline("sd3"), library, early=False)
    assert other.ordinary.similarity_at(4.0) is None


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


def test_what_the_extra_brings_is_named_where_it_is_missing(run, library, monkeypatch):
    monkeypatch.setattr("steerclear.cli.calibrate.NEEDED", ("scipy", "no_such_package"))
    result = run("calibrate", "--library", library, "--clean", "clean")
    assert result.code == 2
    assert "needs no_such_package; run: pip install 'steerclear[calibrate]'" in result.stderr
