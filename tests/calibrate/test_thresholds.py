"""Thresholds keep their stated rate and their floors, and the evidence counts what they flag."""

from __future__ import annotations

import numpy as np
import pytest

from steerclear.calibrate import bounded_thresholds, calibration
from steerclear.conformal import upper_rate

COPIES = {"nearest": [0.9, 0.95, 0.2], "copy": [1.2, 0.4, 1.3]}


def clean(highest_copy=0.6, n=300):
    return {"nearest": list(np.linspace(0.1, 0.5, n)), "copy": list(np.linspace(0.1, highest_copy, n))}


def test_a_threshold_lies_as_low_as_the_rate_allows():
    bounds = bounded_thresholds(clean(n=1000), 0.02)
    assert bounds["nearest"].exceeding > 0
    assert bounds["nearest"].upper <= 0.02
    assert upper_rate(bounds["nearest"].exceeding + 1, 1000) > 0.02


def test_the_copy_detector_is_never_calibrated_below_its_floors():
    bounds = bounded_thresholds(clean(highest_copy=0.6), 0.01)
    document = calibration(bounds, clean=clean(), copies=COPIES)
    assert (document["thresholds"]["copy"], document["strict"]["copy"]) == (1.0, 0.93)
    assert document["strict"]["nearest"] < document["thresholds"]["nearest"] < 0.6


def test_at_the_floor_the_bound_is_that_of_what_the_floor_flags():
    scores = clean(n=1000)
    scores["copy"] = [0.5] * 998 + [1.1, 1.2]
    bound = bounded_thresholds(scores, 0.05)["copy"]
    assert (bound.threshold, bound.exceeding) == (1.0, 2)
    assert bound.upper == pytest.approx(upper_rate(2, 1000))


def test_clean_pictures_that_come_near_to_protected_ones_raise_the_copy_detectors_threshold():
    scores = clean(highest_copy=1.4)
    bounds = bounded_thresholds(scores, 0.01)
    document = calibration(bounds, clean=scores, copies=COPIES)
    assert document["thresholds"]["copy"] > 1.3
    assert 0.93 < document["strict"]["copy"] <= document["thresholds"]["copy"]


def test_the_evidence_counts_what_all_filters_flag_together_with_its_bound():
    scores = {"nearest": [0.1] * 99 + [0.8], "copy": [1.5] + [0.1] * 99}
    bounds = bounded_thresholds(scores, 0.2)
    evidence = calibration(bounds, clean=scores, copies=COPIES)["evidence"]
    assert evidence["clean"] == 100
    assert evidence["clear_exceeding"] == 2
    assert evidence["clear_upper"] == pytest.approx(upper_rate(2, 100))
    assert evidence["copies_flagged"] == 1.0
    assert evidence["by_filter"]["copy"]["copies_flagged"] == pytest.approx(2 / 3, abs=1e-3)
