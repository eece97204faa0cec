"""The copy detector: finds protected pictures in a picture, wherever they lie in it and however they are
turned, cropped or recoloured.

`CopyFilter.of(pictures)` is a filter for a guard; `CopyFilter.look(images)` says what was found and where.
"""

from steerclear.copy_detection.copy_filter import CopyFilter, Effort
from steerclear.copy_detection.decide import Thresholds
from steerclear.copy_detection.place import Evidence, Match, Place
from steerclear.copy_detection.protected_side import BLANK, ProtectedSide, is_recognisable
from steerclear.copy_detection.second_opinion import SecondOpinion, second_opinion

__all__ = [
    "BLANK",
    "CopyFilter",
    "Effort",
    "Evidence",
    "Match",
    "Place",
    "ProtectedSide",
    "SecondOpinion",
    "Thresholds",
    "is_recognisable",
    "second_opinion",
]
