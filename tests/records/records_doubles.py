"""A report of a picture that was flagged."""

from __future__ import annotations

from steerclear import Detection, Outcome, Report


def report(prompt="a fox", outcome=Outcome.WITHHELD, item="fox-1", **values):
    detection = Detection("nearest", flagged=True, score=0.93, threshold=0.8, matched=item)
    return Report(prompt, seed=7, outcome=outcome, detections=(detection,), **values)
