"""The filters over a protected library, built with the library's encoders and calibrated thresholds; and filters by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from steerclear import plugins
from steerclear.encoders.base import Encoder
from steerclear.errors import ConfigError, LibraryError
from steerclear.filters.base import Filter, PassFilter, PromptsFilter
from steerclear.filters.hash import SAME, HashFilter
from steerclear.filters.nearest import NearestFilter
from steerclear.filters.pixel import AllPictures, Gallery, NearestPictures, PixelFilter, TiledFilter
from steerclear.library import Library
from steerclear.library.pictures import IN_MEMORY

LIBRARY_FILTERS = ("nearest", "pixel", "tiled")  # what every guard over a library looks with
AnyFilter = Filter | PassFilter | PromptsFilter


@dataclass(frozen=True)
class FilterParts:
    """What a named filter may be built of.

    Attributes:
        library: the protected pictures.
        encoders: those that the library was built with; the first one's filter is called `nearest`.
        thresholds: by the filter's name, as the library's calibration has them.
        prefix: put before the filters' names, to tell the strict ones apart.
        device: where vectors are compared.
    """

    library: Library
    encoders: Sequence[Encoder]
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    device: torch.device | str = "cpu"

    def threshold(self, name: str) -> float:
        """The calibrated threshold of a filter.

        Raises:
            LibraryError: if there is none, or it is no finite number.
        """
        value = self.thresholds.get(name)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise LibraryError(
                f"the calibration of {self.library.uri!r} has {value!r} as threshold of {name!r}; run: "
                f"steerclear calibrate --library {self.library.uri} --clean IMAGES_OR_PROMPTS"
            )
        return float(value)

    @cached_property
    def nearest(self) -> list[NearestFilter]:
        """One filter for each encoder: `nearest` by the first, `nearest ENCODER` by each other."""
        filters = []
        for number, encoder in enumerate(self.encoders):
            name = "nearest" if number == 0 else f"nearest {encoder.name}"
            index = self.library.index(encoder.name, self.device)
            filters.append(NearestFilter(encoder, index, self.threshold(name), self.prefix + name))
        return filters

    @cached_property
    def gallery(self) -> Gallery:
        """The pictures that are compared pixel by pixel: all, or in a large library the nearest by the first encoder."""
        if len(self.library) > IN_MEMORY:
            return NearestPictures(self.encoders[0], self.nearest[0].index, self.library.pictures())
        ids, thumbnails = self.library.thumbnails()
        return AllPictures(tuple(ids), thumbnails)


def library_filters(parts: FilterParts) -> list[Filter]:
    """The filters that every guard over a library looks with. Raises LibraryError where a threshold is missing."""
    return [filter_ for name in LIBRARY_FILTERS for filter_ in named_filters(name, parts)]  # type: ignore[misc]


def named_filters(name: str, parts: FilterParts) -> list[AnyFilter]:
    """The filters behind a name, most often one.

    What is registered, or named as `module:object`, is a filter, or a callable that makes one or a list of them: without
    arguments, or of `FilterParts` where it has a parameter without a default.

    Raises:
        ConfigError: for an unknown name, or an object that gives no filter.
    """
    entry = plugins.load("filter", name)
    if not isinstance(entry, type) and isinstance(entry, AnyFilter):
        return [entry]
    if not callable(entry):
        raise ConfigError(
            f"{name!r} is {entry!r}, which is no filter: it needs a name, a threshold and a check"
        )
    needed = [
        p
        for p in inspect.signature(entry).parameters.values()
        if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    output = entry(parts) if needed else entry()
    filters = list(output) if isinstance(output, list | tuple) else [output]
    if not filters or not all(isinstance(filter_, AnyFilter) for filter_ in filters):
        raise ConfigError(
            f"{name!r} gives {output!r}, which is no filter: it needs a name, a threshold and a check"
        )
    return filters


def nearest(parts: FilterParts) -> list[NearestFilter]:
    """`nearest`: the cosine to the nearest protected picture, by each of the library's encoders."""
    return parts.nearest


def pixel(parts: FilterParts) -> PixelFilter:
    """`pixel`: the pixel distance to the nearest protected picture."""
    return PixelFilter(parts.gallery, parts.threshold("pixel"), f"{parts.prefix}pixel")


def tiled(parts: FilterParts) -> TiledFilter:
    """`tiled`: the same of the tile that is least alike."""
    return TiledFilter(parts.gallery, parts.threshold("tiled"), f"{parts.prefix}tiled")


def hashes(parts: FilterParts) -> HashFilter:
    """`hash`: the perceptual hash, at its authors' distance."""
    ids, thumbnails = parts.library.thumbnails()
    return HashFilter.of(ids, thumbnails, SAME)
