"""`copy` is a filter that a guard and the command line know by name."""

from __future__ import annotations

import json

import pytest
from PIL import Image, ImageOps

from steerclear.cli import main
from steerclear.embedded import PROTECTED_FOLDER


def repeated(picture: Image.Image) -> Image.Image:
    """Two copies side by side, as a model draws them that is asked for twice its width."""
    wide = Image.new("RGB", (2 * picture.width, picture.height))
    for left in (0, picture.width):
        wide.paste(picture, (left, 0))
    return wide


@pytest.mark.parametrize("alter", [ImageOps.mirror, repeated])
def test_check_finds_an_altered_copy_that_the_filters_for_whole_pictures_call_clear(tmp_path, capsys, alter):
    altered = alter(Image.open(PROTECTED_FOLDER / "mascot-acme.png").convert("RGB"))
    altered.save(tmp_path / "altered.png")
    code = main(["check", str(tmp_path / "altered.png")])
    line = json.loads(capsys.readouterr().out)
    assert code == 3
    detections = {d["filter"]: d for d in line["detections"]}
    assert detections["copy"]["flagged"]
    assert detections["copy"]["matched"] == "mascot-acme"


def test_check_lets_another_picture_pass(tmp_path, capsys):
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "other.png")
    assert main(["check", str(tmp_path / "other.png")]) == 0


def test_check_looks_for_small_copies_in_a_large_picture_where_it_is_asked_to(tmp_path, capsys):
    screen = Image.new("RGB", (640, 360), "#d0d4d8")
    with Image.open(PROTECTED_FOLDER / "photo-chelsea.png") as protected:
        screen.paste(protected.convert("RGB").resize((96, 96)), (420, 60))
    screen.save(tmp_path / "screen.png")
    assert main(["check", str(tmp_path / "screen.png"), "--smallest", "96"]) == 3
    (copied,) = [d for d in json.loads(capsys.readouterr().out)["detections"] if d["flagged"]]
    assert (copied["filter"], copied["matched"]) == ("copy", "photo-chelsea")
    assert copied["where"]["box"] == pytest.approx([420 / 640, 60 / 360, 516 / 640, 156 / 360], abs=0.03)
