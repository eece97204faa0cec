"""Filters decide: flagged or clear, with a score, a threshold and the matched protected item."""

from steerclear.filters.base import Filter, flagged, inspect
from steerclear.filters.early import EarlyVerdict
from steerclear.filters.nearest import NearestFilter
from steerclear.filters.pixel import PixelFilter, TiledFilter, pixel_l2, tiled_l2

__all__ = [
    "EarlyVerdict",
    "Filter",
    "NearestFilter",
    "PixelFilter",
    "TiledFilter",
    "flagged",
    "inspect",
    "pixel_l2",
    "tiled_l2",
]
