"""Filters decide whether an image is flagged, with a score, a threshold and the matched protected item."""

from steerclear.filters.base import Filter, PassFilter, PromptsFilter, flagged, inspect, judge
from steerclear.filters.concept import ConceptFilter
from steerclear.filters.custom import ClassifierFilter, CustomFilter
from steerclear.filters.early import EarlyVerdict
from steerclear.filters.hash import HashFilter
from steerclear.filters.memorization import MemorizationFilter
from steerclear.filters.nearest import NearestFilter
from steerclear.filters.nsfw import NudityFilter, SafetyCheckerFilter
from steerclear.filters.pixel import PixelFilter, TiledFilter, pixel_l2, tiled_l2
from steerclear.filters.prompt import PromptFilter

__all__ = [
    "ClassifierFilter",
    "ConceptFilter",
    "CustomFilter",
    "EarlyVerdict",
    "Filter",
    "HashFilter",
    "MemorizationFilter",
    "NearestFilter",
    "NudityFilter",
    "PassFilter",
    "PixelFilter",
    "PromptFilter",
    "PromptsFilter",
    "SafetyCheckerFilter",
    "TiledFilter",
    "flagged",
    "inspect",
    "judge",
    "pixel_l2",
    "tiled_l2",
]
