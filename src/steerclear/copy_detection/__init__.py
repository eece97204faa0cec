"""The copy detector: finds protected pictures in a picture, wherever they lie in it and however they are
turned, cropped or recoloured.

`CopyFilter.of(pictures)` is a filter for a guard; `CopyFilter.look(images)` says what was found and where.
"""

from steerclear.copy_detection.copy_filter import STRICT, CopyFilter
from steerclear.copy_detection.decide import Thresholds
from steerclear.copy_detection.detector import CopyDetector, Effort
from steerclear.copy_detection.place import Evidence, Match
from steerclear.copy_detection.protected_side import BLANK, ProtectedSide, is_plain, is_recognisable
from steerclear.copy_detection.second_opinion import SecondOpinion

__all__ = [
    "BLANK",
    "STRICT",
    "CopyDetector",
    "CopyFilter",
    "Effort",
    "Evidence",
    "Match",
    "ProtectedSide",
    "SecondOpinion",
    "Thresholds",
    "is_plain",
    "is_recognisable",
]
