"""The comparison sheet, without a model."""

from __future__ import annotations

import numpy as np
from PIL import Image

from steerclear.sheet import CELL, GAP, MARGIN, SheetRow, compare_sheet
from steerclear.types import Detection, Outcome, Place, Report

RED, GREEN, BLUE = (Image.new("RGB", (64, 64), colour) for colour in ("#ff0000", "#00ff00", "#0000ff"))


def row(outcome: Outcome, **pictures: object) -> SheetRow:
    detections = (Detection("nearest", flagged=True, score=0.9, threshold=0.5, matched="fox"),)
    return SheetRow(report=Report("a fox → 🦊", seed=3, outcome=outcome, detections=detections), **pictures)


def test_the_sheet_shows_protected_plain_and_handed_out_side_by_side():
    sheet = compare_sheet(
        [
            row(Outcome.STEERED, protected=RED, protected_id="fox", plain=GREEN, handed_out=BLUE),
            row(Outcome.WITHHELD, protected=RED, protected_id="fox", plain=GREEN, handed_out=None),
        ]
    )
    pixels = np.asarray(sheet)
    for colour, column in (((255, 0, 0), 0), ((0, 255, 0), 1), ((0, 0, 255), 2)):
        rows, columns = np.nonzero((pixels == colour).all(-1))
        assert columns.min() == MARGIN + column * (CELL + GAP)
        assert columns.max() - columns.min() == CELL - 1
        assert len(rows) == CELL * CELL * (1 if column == 2 else 2)
    assert (pixels[0] == 255).all()


def test_a_box_shows_where_the_plain_picture_resembles_the_protected_one():
    place = Place(box=(0.5, 0.0, 1.0, 0.5), scale=0.5, turn=0.0, mirrored=False)
    detections = (
        Detection("nearest", flagged=True, score=0.9, threshold=0.5, matched="fox"),
        Detection("copy", flagged=True, score=1.2, threshold=1.0, matched="fox", where=place),
    )
    report = Report("a fox", seed=3, outcome=Outcome.STEERED, detections=detections)
    assert report.where == place
    assert report.to_dict()["where"]["box"] == (0.5, 0.0, 1.0, 0.5)
    shown = SheetRow(report=report, protected=RED, protected_id="fox", plain=GREEN, handed_out=BLUE)
    pixels = np.asarray(compare_sheet([shown]))
    rows, columns = np.nonzero((pixels == (0xB9, 0x1C, 0x1C)).all(-1))
    left = MARGIN + CELL + GAP
    assert (columns.min() - left, columns.max() - left) == (CELL // 2, CELL - 1)
    assert np.ptp(rows) + 1 == CELL // 2


def test_a_box_in_a_picture_that_is_a_line_in_its_cell_is_drawn():
    place = Place(box=(0.0, 0.5, 0.0, 0.5), scale=0.5, turn=0.0, mirrored=False)
    report = Report(
        "a line",
        seed=3,
        outcome=Outcome.STEERED,
        detections=(Detection("copy", flagged=True, score=1.2, threshold=1.0, matched="fox", where=place),),
    )
    line = Image.new("RGB", (5000, 20))
    compare_sheet([SheetRow(report=report, protected=RED, protected_id="fox", plain=line, handed_out=RED)])


def test_pictures_of_any_shape_keep_it_in_the_sheet():
    wide = Image.new("RGB", (1024, 512), "#00ff00")
    pixels = np.asarray(
        compare_sheet([row(Outcome.CLEAR, protected=None, protected_id=None, plain=wide, handed_out=RED)])
    )
    rows, columns = np.nonzero((pixels == (0, 255, 0)).all(-1))
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (CELL, CELL // 2)
