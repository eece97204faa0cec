"""What a request leaves on disk, without a model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steerclear.errors import ImageError, InputError
from steerclear.output import ReportFile, read_png, report_line, save_png, staged_png
from steerclear.types import Attempt, Detection, Outcome, Report

RED, GREEN = (Image.new("RGB", (64, 64), colour) for colour in ("#ff0000", "#00ff00"))


def report(outcome: Outcome = Outcome.STEERED, score: float = 0.9) -> Report:
    before = (Detection("nearest", flagged=True, score=score, threshold=0.5, matched="fox"),)
    after = (Detection("nearest", flagged=False, score=0.2, threshold=0.5, matched="fox"),)
    attempts = (
        Attempt("condition", seed=1, nfe=60.0, seconds=0.5, before=before, after=after, stopped="nudged"),
    )
    return Report(
        "a fox → 🦊",
        seed=3,
        outcome=outcome,
        detections=before,
        attempts=attempts,
        nfe=150.0,
        nfe_plain=50.0,
        seconds=1.0,
    )


def test_a_png_carries_its_recipe_and_every_pixel(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8))
    save_png(tmp_path / "a.png", noise, {"prompt": "a fox → 🦊", "seed": 2**63 - 1})
    image, recipe = read_png(tmp_path / "a.png")
    assert (np.asarray(image) == np.asarray(noise)).all()
    assert recipe == {"prompt": "a fox → 🦊", "seed": 2**63 - 1}


def test_a_png_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    save_png(tmp_path / "a.png", RED, {})

    def break_off(self, content):
        with open(self, "wb") as file:
            file.write(content[:4])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", break_off)
    with pytest.raises(InputError, match=r"a\.png': No space left on device; choose another --out"):
        save_png(tmp_path / "a.png", GREEN, {})
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert read_png(tmp_path / "a.png")[0].getpixel((0, 0)) == (255, 0, 0)


def test_a_png_without_a_sound_recipe_is_refused(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ImageError, match="cannot read"):
        read_png(path)
    RED.save(path)
    with pytest.raises(InputError, match="carries no recipe"):
        read_png(path)
    save_png(path, RED, {"prompt": "a fox"})
    path.write_bytes(path.read_bytes().replace(b'{"prompt"', b'["prompt"'))
    with pytest.raises((InputError, ImageError), match=r"damaged|broken|cannot read"):
        read_png(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError):
        read_png(path)


def test_a_report_line_says_what_happened_in_plain_json():
    line = report_line(report(), "0000-3.png")
    assert line == json.loads(json.dumps(line, allow_nan=False))
    assert (line["file"], line["outcome"], line["matched"], line["overhead"]) == (
        "0000-3.png",
        "steered",
        "fox",
        3.0,
    )
    assert (line["before"], line["after"]) == (0.9, 0.2)
    assert line["attempts"][0]["after"][0]["matched"] == "fox"
    failed = report_line(report(score=math.nan), None)
    assert (failed["detections"][0]["score"], failed["before"], failed["file"]) == (None, None, None)


def lines(folder):
    return [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]


def test_report_lines_are_on_disk_at_once_and_those_of_earlier_runs_are_kept(tmp_path):
    with ReportFile(tmp_path) as file:
        assert not (tmp_path / "report.jsonl").exists()
        file.write({"a": 1})
        assert lines(tmp_path) == [{"a": 1, "run": file.run}]
    with ReportFile(tmp_path) as second:
        second.write({"b": 2})
        assert lines(tmp_path) == [{"a": 1, "run": file.run}, {"b": 2, "run": second.run}]
    assert file.run != second.run


def test_a_line_that_a_killed_run_left_unfinished_spoils_no_other(tmp_path):
    (tmp_path / "report.jsonl").write_text('{"a": 1}\n{"b": ')
    with ReportFile(tmp_path) as file:
        file.write({"c": 3})
    first, broken, last = (tmp_path / "report.jsonl").read_text().splitlines()
    assert (first, broken) == ('{"a": 1}', '{"b": ')
    assert json.loads(last) == {"c": 3, "run": file.run}


def test_a_full_disk_leaves_no_half_line(tmp_path):
    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, encoded):
            if len(encoded) > 5:
                return self.file.write(encoded[:5])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    with ReportFile(tmp_path) as file:
        file.write({"a": 1})
        file._file = Full(file._file)
        with pytest.raises(InputError, match="No space left"):
            file.write({"b": 2})
    assert lines(tmp_path) == [{"a": 1, "run": file.run}]


def test_a_picture_is_put_in_its_place_only_once_its_line_is_written(tmp_path):
    with pytest.raises(InputError, match="full"), staged_png(tmp_path / "a.png", RED, {}):  # noqa: PT012
        assert not (tmp_path / "a.png").exists()
        raise InputError("the disk is full")
    assert list(tmp_path.iterdir()) == []
