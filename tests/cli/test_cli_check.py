"""`steerclear check`: findings on pictures that exist already."""

from __future__ import annotations

import json

from PIL import Image


def test_a_protected_picture_is_flagged_and_another_is_not(run, here, assets):
    Image.new("RGB", (100, 60), "teal").save(here / "other.png")
    clear = run("check", "other.png")
    assert (clear.code, clear.stderr) == (0, "")
    copy = assets / "art" / "copied.png"
    result = run("check", "other.png", copy, "--library", assets / "library")
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
    ]


def test_an_unreadable_picture_is_bad_input_and_the_others_are_checked_all_the_same(run, here, assets):
    (here / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    result = run("check", "broken.png", assets / "art" / "copied.png", "nowhere.png")
    assert result.code == 2
    assert [json.loads(line)["flagged"] for line in result.stdout.splitlines()] == [True]
    first, second = result.stderr.splitlines()
    assert first.startswith("error: ")
    assert "broken.png" in first
    assert "nowhere.png" in second


def test_the_diffusion_model_is_not_loaded(run, assets, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("check needs no diffusion model")

    monkeypatch.setattr("diffusers.DiffusionPipeline.from_pretrained", refuse)
    assert run("check", assets / "art" / "copied.png").code == 3
