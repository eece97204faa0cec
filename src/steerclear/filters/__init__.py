"""Filters decide: flagged or clear, with a score, a threshold and the matched protected item."""

from steerclear.filters.base import Filter, flagged, inspect
from steerclear.filters.concept import ConceptFilter
from steerclear.filters.custom import ClassifierFilter, CustomFilter
from steerclear.filters.early import EarlyVerdict
from steerclear.filters.hash import HashFilter
from steerclear.filters.nearest import NearestFilter
from steerclear.filters.nsfw import NudityFilter, SafetyCheckerFilter
from steerclear.filters.pixel import PixelFilter, TiledFilter, pixel_l2, tiled_l2

__all__ = [
    "ClassifierFilter",
    "ConceptFilter",
    "CustomFilter",
    "EarlyVerdict",
    "Filter",
    "HashFilter",
    "NearestFilter",
    "NudityFilter",
    "PixelFilter",
    "SafetyCheckerFilter",
    "TiledFilter",
    "flagged",
    "inspect",
    "pixel_l2",
    "tiled_l2",
]
