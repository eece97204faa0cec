"""Filters over a protected library, with its encoders and calibrated thresholds, and filters by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from steerclear import plugins
from steerclear.copy_detection import STRICT, CopyFilter
from steerclear.copy_detection.copy_filter import Detector
from steerclear.encoders import DEFAULT, Encoder
from steerclear.errors import ConfigError, LibraryError
from steerclear.filters.base import Filter, PassFilter, PromptsFilter
from steerclear.filters.copy import IndexedCopyDetector, copy_detector
from steerclear.filters.hash import SAME, HashFilter
from steerclear.filters.nearest import NearestFilter
from steerclear.filters.pixel import AllPictures, Gallery, NearestPictures, PixelFilter, TiledFilter
from steerclear.library import Library
from steerclear.library.pictures import IN_MEMORY

LIBRARY_FILTERS = ("nearest", "pixel", "tiled", "copy")  # every guard over a library uses these
AnyFilter = Filter | PassFilter | PromptsFilter


@dataclass(frozen=True)
class FilterParts:
    """What a named filter may be built from.

    Attributes:
        library: the protected pictures.
        encoders: those that the library was built with; the first one's filter is called `nearest`.
        thresholds: filter name → threshold, from the library's calibration.
        prefix: put before the filters' names, to tell the strict ones apart.
        device: where vectors are compared.
        native: side in pixels of the pictures that the pipeline makes by default, if there is a pipeline.
        shared: what the plain and the strict filters have in common, by name; filled at the first use.
    """

    library: Library
    encoders: Sequence[Encoder]
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    device: torch.device | str = "cpu"
    native: int | None = None
    shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def strict(self, thresholds: Mapping[str, Any]) -> FilterParts:
        """Returns the parts of the filters for steered and suspect pictures, with their thresholds."""
        return replace(self, thresholds=thresholds, prefix="strict ")

    def threshold(self, name: str, default: float | None = None) -> float:
        """Returns the calibrated threshold of a filter.

        Args:
            name: of the filter.
            default: what holds for a library that was calibrated before this filter existed.

        Raises:
            LibraryError: if there is none, or it is not a finite number.
        """
        value = self.thresholds.get(name, default)
        if not isinstance(value, int | float) or not math.isfinite(value):
            what = "no threshold" if value is None else f"{value!r} as the threshold"
            raise LibraryError(
                f"the library at {self.library.uri!r} has {what} of the filter {name!r}; "
                f"run: {calibrate_command(self.library.uri)}"
            )
        return float(value)

    @cached_property
    def nearest(self) -> list[NearestFilter]:
        """One filter for each encoder: `nearest` by the first, `nearest ENCODER` by each other."""
        filters = []
        for number, encoder in enumerate(self.encoders):
            name = "nearest" if number == 0 else f"nearest {encoder.name}"
            index = self.library.index(encoder.name, self.device)
            threshold = self.threshold(name)
            filters.append(
                NearestFilter(encoder=encoder, index=index, threshold=threshold, name=self.prefix + name)
            )
        return filters

    @cached_property
    def gallery(self) -> Gallery:
        """What an image is compared with by pixels: all pictures, or the nearest ones of a large library."""
        if len(self.library) > IN_MEMORY:
            return NearestPictures(self.encoders[0], self.nearest[0].index, self.library.pictures())
        ids, thumbnails = self.library.thumbnails()
        return AllPictures(tuple(ids), thumbnails)

    def copy_detector(self) -> Detector:
        """Makes the detector of altered copies: over all pictures, or the nearest of a large library."""
        if len(self.library) <= IN_MEMORY:
            return copy_detector(self.library, self.device, self.native)
        encoder = self.encoders[0]
        index = self.library.index(encoder.name, self.device)
        return IndexedCopyDetector(self.library, encoder, index, native=self.native, device=self.device)


def calibrate_command(uri: str) -> str:
    """Returns the command that gives a library its thresholds."""
    return f"steerclear calibrate --library {uri} --clean IMAGES_OR_PROMPTS"


def needs_calibration(library: Library) -> bool:
    """Returns whether a library must be calibrated before a guard can use it.

    A library without a calibration of its own takes the embedded one, which knows the embedded copy
    descriptor alone.
    """
    calibration = library.read_note("calibration")
    if calibration is None:
        return any(spec.name != DEFAULT for spec in library.encoders)
    return not calibration.get("thresholds")


def library_filters(parts: FilterParts) -> list[Filter]:
    """Returns the filters that every guard over a library uses.

    Raises:
        LibraryError: if a threshold is missing.
    """
    filters: list[Any] = []
    for name in LIBRARY_FILTERS:
        filters += named_filters(name, parts)
    return filters


def named_filters(name: str, parts: FilterParts) -> list[AnyFilter]:
    """Returns the filters behind a name, most often one.

    The name stands for a filter, or for a callable that makes one or a list of them. The callable gets
    `parts` if it has a parameter without a default, else no argument.

    Args:
        name: a registered name, or `module:object`.
        parts: what filters over the library are built from.

    Raises:
        ConfigError: for an unknown name, or an object that gives no filter.
        LibraryError: if a threshold is missing.
    """
    entry = plugins.load("filter", name)
    if not isinstance(entry, type) and isinstance(entry, AnyFilter):
        return [entry]
    if not callable(entry):
        raise ConfigError(
            f"{name!r} is {entry!r}, which is no filter: it needs a name, a threshold and a check"
        )
    output = plugins.make("filter", name, entry, *([parts] if _takes_parts(entry) else []))
    filters = list(output) if isinstance(output, list | tuple) else [output]
    if not filters or not all(isinstance(filter_, AnyFilter) for filter_ in filters):
        raise ConfigError(
            f"the filter {name!r} gives {output!r}, which is no filter: it needs name, threshold and check"
        )
    return filters


def is_over_library(name: str) -> bool:
    """Returns whether the filters behind a name are made of a library's items, and so change with them.

    Args:
        name: as for `named_filters`.

    Raises:
        ConfigError: for an unknown name.
    """
    entry = plugins.load("filter", name)
    is_filter = not isinstance(entry, type) and isinstance(entry, AnyFilter)
    return not is_filter and callable(entry) and _takes_parts(entry)


def _takes_parts(entry: Callable[..., Any]) -> bool:
    """Whether what makes a filter has a parameter without a default."""
    return any(
        parameter.default is parameter.empty and parameter.kind < parameter.VAR_POSITIONAL
        for parameter in inspect.signature(entry).parameters.values()
    )


def nearest(parts: FilterParts) -> list[NearestFilter]:
    """Makes the filters `nearest`: the cosine to the nearest protected picture, one for each encoder."""
    return parts.nearest


def pixel(parts: FilterParts) -> PixelFilter:
    """Makes the filter `pixel`: the pixel distance to the nearest protected picture."""
    return PixelFilter(parts.gallery, parts.threshold("pixel"), f"{parts.prefix}pixel")


def tiled(parts: FilterParts) -> TiledFilter:
    """Makes the filter `tiled`: the pixel distance of the tile that differs most."""
    return TiledFilter(parts.gallery, parts.threshold("tiled"), f"{parts.prefix}tiled")


def hashes(parts: FilterParts) -> HashFilter:
    """Makes the filter `hash`: the perceptual hash, at the distance that its authors advise."""
    ids, thumbnails = parts.library.thumbnails()
    return HashFilter.of(ids, thumbnails, SAME)


def copies(parts: FilterParts) -> CopyFilter:
    """Makes the filter `copy`, which finds altered copies.

    Mirrored, turned, cropped, shrunk, repeated or recoloured ones are found, and where they lie.
    """
    if "detector" not in parts.shared:
        parts.shared["detector"] = parts.copy_detector()
    default = STRICT if parts.prefix else 1.0
    return CopyFilter(parts.shared["detector"], parts.threshold("copy", default), f"{parts.prefix}copy")
