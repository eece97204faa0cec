"""`steerclear check`: findings on pictures that exist already."""

from __future__ import annotations

import json
import shutil

import pytest
from cli_doubles import ENCODER, THRESHOLDS
from PIL import Image

from steerclear.library import Library, add

COPIES_FLAGGED = {**THRESHOLDS, "copy": 1.0}


def test_a_protected_picture_is_flagged_and_another_is_not(run, here, assets):
    Image.new("RGB", (100, 60), "teal").save(here / "other.png")
    clear = run("check", "other.png")
    assert (clear.code, clear.stderr) == (0, "")
    copy = assets / "art" / "copied.png"
    shutil.copytree(assets / "library", here / "library")
    Library.open(here / "library").write_note("calibration", {"thresholds": COPIES_FLAGGED})
    result = run("check", "other.png", copy, "--library", "library")
    assert result.code == 3
    other, copied = map(json.loads, result.stdout.splitlines())
    assert (other["file"], other["flagged"], copied["file"], copied["flagged"]) == (
        "other.png",
        False,
        str(copy),
        True,
    )
    assert [(d["filter"], d["matched"], d["flagged"]) for d in copied["detections"]] == [
        ("nearest", "copied", True),
        ("pixel", "copied", True),
        ("tiled", "copied", True),
        ("copy", "copied", True),
    ]
    assert copied["detections"][-1]["where"] == {
        "box": pytest.approx([0, 0, 1, 1], abs=0.02),
        "scale": pytest.approx(1, abs=0.02),
        "turn": pytest.approx(0, abs=1),
        "mirrored": False,
    }


def test_an_unreadable_picture_is_bad_input_and_the_others_are_checked_all_the_same(run, here, assets):
    (here / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    result = run("check", "broken.png", assets / "art" / "copied.png", "nowhere.png")
    assert result.code == 2
    assert [json.loads(line)["flagged"] for line in result.stdout.splitlines()] == [True]
    first, second = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert "broken.png" in first
    assert "nowhere.png" in second


@pytest.fixture
def of_few_colours(here, assets):
    """A picture that a GIF shows exactly, and the library `few` that protects it."""
    picture = Image.open(assets / "art" / "copied.png").quantize(16).convert("RGB")
    picture.save(here / "few.png")
    library = Library.create(here / "few", [ENCODER])
    add(library, here / "few.png", [ENCODER])
    library.write_note("calibration", {"thresholds": COPIES_FLAGGED})
    return picture.copy()  # Pillow leaves traces of a format in what it has saved


def _animate(path, frames):
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless)


def _plain(size, count):
    return [Image.new("RGB", size, (40 * i % 256, 90, i)) for i in range(count)]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tiff"])
def test_an_animation_is_flagged_by_a_single_frame_which_is_named(run, here, of_few_colours, suffix):
    others = _plain(of_few_colours.size, 5)
    _animate(here / f"a{suffix}", [*others[:3], of_few_colours, *others[3:]])
    result = run("check", f"a{suffix}", "--library", "few")
    assert result.code == 3, result.stderr
    line = json.loads(result.stdout)
    assert (line["flagged"], line["frames"], line["frames_checked"]) == (True, 6, 6)
    detections = [(d["filter"], d["flagged"], d["frame"]) for d in line["detections"]]
    assert detections == [(name, True, 4) for name in COPIES_FLAGGED]


def test_an_animation_without_a_copy_is_clear_and_names_the_frame_that_comes_nearest(
    run, here, of_few_colours
):
    near = of_few_colours.resize((1, 1), Image.Resampling.BOX).resize(of_few_colours.size)  # its mean colour
    _animate(here / "a.png", [*_plain(near.size, 2), near])
    result = run("check", "a.png", "--library", "few")
    assert result.code == 0, result.stderr
    line = json.loads(result.stdout)
    assert (line["flagged"], line["frames"], line["frames_checked"]) == (False, 3, 3)
    assert [(d["filter"], d["flagged"]) for d in line["detections"]] == [
        (name, False) for name in COPIES_FLAGGED
    ]
    assert {d["frame"] for d in line["detections"] if d["filter"] == "pixel"} == {3}


def test_of_a_long_animation_so_many_frames_are_checked_as_is_asked(run, here, of_few_colours):
    frames = _plain(of_few_colours.size, 70)
    frames[-1] = of_few_colours
    frames[1] = of_few_colours
    _animate(here / "a.png", frames)
    seen = {}
    for options in ((), ("--frames", 2), ("--frames", 1), ("--frames", 70)):
        line = json.loads(run("check", "a.png", "--library", "few", *options).stdout)
        flagged = {d["frame"] for d in line["detections"] if d["flagged"]}
        seen[options] = (line["frames"], line["frames_checked"], flagged)
    assert seen == {
        (): (70, 64, {2, 70}),
        ("--frames", 2): (70, 2, {70}),
        ("--frames", 1): (70, 1, set()),
        ("--frames", 70): (70, 70, {2, 70}),
    }


def test_an_animation_that_breaks_off_is_unreadable(run, here, of_few_colours):
    _animate(here / "a.gif", [of_few_colours, *_plain(of_few_colours.size, 1)])
    whole = (here / "a.gif").read_bytes()
    (here / "cut.gif").write_bytes(whole[: len(whole) - 40])
    result = run("check", "cut.gif", "--library", "few")
    assert (result.code, result.stdout) == (2, "")
    assert "cut.gif" in result.stderr


def test_the_diffusion_model_is_not_loaded(run, assets, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("check needs no diffusion model")

    monkeypatch.setattr("diffusers.DiffusionPipeline.from_pretrained", refuse)
    assert run("check", assets / "art" / "copied.png").code == 3
