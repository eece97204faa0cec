"""The judges see a copy that is mirrored, cropped, repeated or part of a larger picture, and no other one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from steerclear.embedded import PROTECTED_FOLDER
from steerclear_lab.bench import documents
from steerclear_lab.bench.copy_detection.pictures import ordinary_drawings
from steerclear_lab.bench.sweep.judges import Judges
from steerclear_lab.bench.sweep.verdicts import judged, taken_for_copy, thresholds
from steerclear_lab.bench.sweep.windows import boxes, cut, distances, sides

LION = "mascot-norvo.png"
COMMITTED = Path(__file__).parents[3] / "docs" / "benchmarks" / "sweep.json"


@pytest.fixture(scope="module")
def judges() -> Judges:
    return Judges()


@pytest.fixture(scope="module")
def at() -> dict[str, float]:
    """The thresholds of the committed run."""
    thresholds_of_run: dict[str, float] = documents.read(COMMITTED)["judges"]["thresholds"]
    return thresholds_of_run


def lion() -> Image.Image:
    with Image.open(PROTECTED_FOLDER / LION) as opened:
        return opened.convert("RGB")


def cropped() -> Image.Image:
    return lion().crop((6, 6, 58, 58)).resize((64, 64), Image.Resampling.BICUBIC)


def repeated() -> Image.Image:
    canvas = Image.new("RGB", (128, 128), "white")
    for x in (0, 64):
        for y in (0, 64):
            canvas.paste(ImageOps.mirror(lion()), (x, y))
    return canvas


def in_a_scene() -> Image.Image:
    noise = np.random.default_rng(0).normal(128, 40, (96, 160, 1)).clip(0, 255).repeat(3, 2)
    canvas = Image.fromarray(noise.astype(np.uint8))
    canvas.paste(lion().rotate(90), (70, 20))
    return canvas


@pytest.mark.parametrize(
    ("picture", "by"),
    [
        (lion(), {"pixel", "tiled", "descriptor"}),
        (ImageOps.mirror(lion()), {"pixel", "tiled", "descriptor"}),
        (lion().rotate(180), {"pixel", "tiled", "descriptor"}),
        (repeated(), {"pixel", "tiled", "descriptor"}),
        (in_a_scene(), {"pixel", "tiled"}),
        (lion().resize((192, 192)), {"pixel", "tiled", "descriptor"}),
        (lion().resize((128, 64)), {"pixel", "tiled", "descriptor"}),
        (cropped(), {"pixel", "tiled"}),
        (lion().rotate(8, fillcolor="white", resample=Image.Resampling.BICUBIC), {"descriptor"}),
    ],
    ids=["same", "mirrored", "turned", "repeated", "in a scene", "larger", "squashed", "cropped", "tilted"],
)
def test_a_copy_is_seen_by_each_judge_that_can_see_it(picture, by, judges, at):
    values = judges(picture)
    assert by <= set(taken_for_copy(values, at))
    assert all(values[f"{judge}_of"] == LION for judge in by)


def test_ordinary_drawings_are_no_copies(judges, at):
    taken = [taken_for_copy(judges(p), at) for p in list(ordinary_drawings().values())[7::24]]
    assert all(by in ([], ["descriptor"]) for by in taken)
    # the thresholds are those of generations, which are less sharp: a skull is nearly an alien's head
    assert sum(map(bool, taken)) <= 1


def test_a_plain_ground_is_near_to_a_small_drawing_on_such_a_ground_but_no_copy(judges):
    dot = Image.new("RGB", (64, 64), "white")
    dot.paste((250, 240, 240), (30, 30, 34, 34))
    values = judges(dot)
    assert values["pixel"] == values["tiled"] == 0


def test_windows_cover_the_whole_picture_and_lie_inside_it():
    assert sides(64, 128)[0] == 64
    assert 64 in sides(256, 256)
    covered = np.zeros((80, 112), dtype=bool)
    for left, top, side in boxes(80, 112, stride=0.25):
        assert 0 <= left <= 112 - side
        assert 0 <= top <= 80 - side
        covered[top : top + side, left : left + side] = True
    assert covered.all()


def test_distance_and_correlation_are_those_of_the_pixels():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, 3, 32, 32, generator=generator) for _ in range(2))
    l2, structure = distances(torch.cat([x, y]), y)
    assert l2[:, 0].tolist() == pytest.approx([float((x - y).square().mean().sqrt()), 0], abs=1e-3)
    expected = float(np.corrcoef(x.flatten(), y.flatten())[0, 1])
    assert structure[:, 0].tolist() == pytest.approx([expected, 1], abs=1e-3)


def test_a_window_is_cut_where_its_box_says():
    picture = torch.zeros(3, 64, 96)
    picture[:, 10:42, 60:92] = 1
    window, whole = cut(picture, [(60, 10, 32), (0, 0, 0)], 32)
    assert bool((window == 1).all())
    assert whole.shape == window.shape
    assert float(whole.mean()) == pytest.approx(32 * 32 / (64 * 96), abs=0.02)


def test_thresholds_lie_above_every_ordinary_picture_they_are_chosen_on():
    ordinary = [
        {"pixel": 0.0, "tiled": 0.86, "descriptor": 0.7},
        {"pixel": 0.9, "tiled": 0.3, "descriptor": 0.5},
    ]
    at = thresholds(ordinary)
    assert all(taken_for_copy(values, at) == [] for values in ordinary)
    assert thresholds(ordinary[:1])["pixel"] == 0.8  # never laxer


def test_what_was_judged_is_kept_until_the_descriptor_changes(judges, tmp_path: Path, monkeypatch):
    file, picture = tmp_path / "judged.jsonl", np.asarray(lion())
    first = judged(judges, [("a", picture)], file)
    with file.open("a") as torn:
        torn.write('{"key": "b", "pix')  # a run that was killed
    asked = []
    monkeypatch.setattr(Judges, "__call__", lambda self, picture: asked.append(picture) or {"pixel": 1.0})
    assert judged(judges, [("a", picture), ("b", picture)], file) == first | {"b": {"pixel": 1.0}}
    assert len(asked) == 1
    other = Judges(judges.weights)
    other.__dict__["fingerprint"] = "another"
    assert judged(other, [("a", picture)], file) == {"a": {"pixel": 1.0}}
