"""The benchmark's page counts what was caught and what was not."""

import pytest

from steerclear.copy_detection import Thresholds
from steerclear_lab.bench.copy_detection import page as pages


def row(number, kind="mirror", orientation=0.9, inliers=None, whole=False):
    return {
        "item": "fox",
        "number": number,
        "kind": kind,
        "strength": "x",
        "orientation": orientation,
        "soft": 0.2,
        "inliers": inliers,
        "matched": "fox",
        "right": True,
        "whole": whole,
    }


def test_each_method_of_looking_is_counted_for_itself():
    rows = [row(0), row(1, orientation=0.3, inliers=9), row(2, orientation=0.3, inliers=2, whole=True)]
    counted = pages.caught_by_kind(rows, Thresholds())["all"]
    assert counted["count"] == 3
    assert [counted[method] for method in pages.METHODS] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])


def test_no_false_alarm_is_still_bounded():
    alarms = pages.alarms([row(i, orientation=0.2) for i in range(100)], Thresholds())
    low, high = alarms["with OpenCV"]["interval"]
    assert alarms["with OpenCV"]["flagged"] == 0
    assert low == 0
    assert high == pytest.approx(0.0362, abs=1e-3)


def test_what_thresholds_were_chosen_on_is_not_reported():
    rows = [row(i) for i in range(40)]
    assert [r["number"] for r in pages.reported("embedded", rows)] == list(range(1, 40, 2))
    assert min(r["number"] for r in pages.reported("stamps", rows)) == pages.LOOKED_AT
    assert [r["number"] for r in pages.reported("stamps: other pictures", rows)] == list(range(0, 40, 2))
    assert len(pages.reported("stamps: generations", rows)) == 40


def test_the_page_is_written_from_rows(tmp_path):
    rows = {
        "copies": {"embedded": [row(i) for i in range(4)], "stamps": [row(i) for i in range(20)]},
        "others": {"embedded: other pictures": [row(i, orientation=0.2) for i in range(10)]},
        "costs": {"clear": {"all": 12.0}, "copy": {"all": 20.0}},
        "environment": {"torch": "2", "python": "3", "machine": "x"},
    }
    pages.write(rows, tmp_path)
    text = (tmp_path / "copy-detection.md").read_text()
    assert "| mirror (2, 4) | 0.0% | 100.0% | 100.0% | 100.0% |" in text
    assert "0 (0.00%–" in text
    assert (tmp_path / "copy-detection.json").exists()
