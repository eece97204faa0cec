"""Thresholds at a stated false-positive rate, and what the filters then see of altered copies."""

from steerclear.calibrate.by_alteration import (
    BLIND,
    AlteredCopy,
    altered_copies,
    blind_to,
    by_alteration,
    mostly_missed,
)
from steerclear.calibrate.clean import Clean, LikelyCopy, score, scores
from steerclear.calibrate.ordinary import note_of, ordinary_prompts
from steerclear.calibrate.pictures import Picture, protected_pictures
from steerclear.calibrate.settings import Grid, Settings, draw_picture
from steerclear.calibrate.thresholds import FLOORS, STRICT_FLAGGED, bounded_thresholds, calibration

__all__ = [
    "BLIND",
    "FLOORS",
    "STRICT_FLAGGED",
    "AlteredCopy",
    "Clean",
    "Grid",
    "LikelyCopy",
    "Picture",
    "Settings",
    "altered_copies",
    "blind_to",
    "bounded_thresholds",
    "by_alteration",
    "calibration",
    "draw_picture",
    "mostly_missed",
    "note_of",
    "ordinary_prompts",
    "protected_pictures",
    "score",
    "scores",
]
