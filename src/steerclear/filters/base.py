"""Step 2 of a request, and its verification: filters check every image, and no failure counts as clear."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from steerclear._moved import moved
from steerclear.devices import raise_if_lost
from steerclear.pixels import to_tensor
from steerclear.types import Detection


class NamedFilter(Protocol):
    """What every filter has, whatever it checks."""

    @property
    def name(self) -> str: ...
    @property
    def threshold(self) -> float: ...


@runtime_checkable
class Filter(NamedFilter, Protocol):
    """Decides whether an image is flagged or clear. Scores grow with the danger: flagged from `threshold` on.

    A filter may have a `cost`. With "library" it compares images with the protected pictures; any other
    counts as "network", and does not check what a library filter has flagged. A filter with `check_prompts`
    or `check_pass` in the place of `check` sees prompts, or how a pass of the pipeline goes: see
    `PromptFilter` and `MemorizationFilter`.
    """

    def check(self, images: Tensor) -> list[Detection]:
        """Checks a batch of images.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            One detection per image, in order.
        """
        ...


@runtime_checkable
class PromptsFilter(NamedFilter, Protocol):
    """Decides by the prompt, before anything is denoised."""

    def check_prompts(self, prompts: Sequence[str]) -> list[Detection]:
        """Returns one detection per prompt, in order."""
        ...


@runtime_checkable
class PassFilter(NamedFilter, Protocol):
    """Decides by how a pass of the pipeline goes."""

    @property
    def steps(self) -> int:
        """How many scheduler steps it needs to see."""
        ...

    def check_pass(self, magnitudes: list[Tensor], resumed: bool, batch: int) -> list[Detection]:
        """Check a pass.

        Args:
            magnitudes: per step so far, (B,) root mean square of ε_c − ε_u.
            resumed: whether the pass began at a lower noise level than pure noise.
            batch: the number of images B.

        Returns:
            One detection per image.
        """
        ...


def detection(filter_: NamedFilter, score: float, matched: str | None = None) -> Detection:
    """Returns a filter's finding on one image: flagged if the score reaches the filter's threshold.

    Args:
        filter_: the filter.
        score: on the filter's own scale.
        matched: the id of the protected item that the image resembles, if the filter knows one.
    """
    return Detection(
        filter=filter_.name,
        flagged=score >= filter_.threshold,
        score=score,
        threshold=filter_.threshold,
        matched=matched,
    )


def inspect(filters: Sequence[Filter], images: Sequence[Image.Image]) -> list[tuple[Detection, ...]]:
    """Run all filters on each image. A filter that raises, returns too few detections, or scores NaN flags.

    Args:
        filters: the filters.
        images: the images; they may have different sizes.

    Returns:
        One tuple of detections per image, in the order of the filters.
    """
    if len({image.size for image in images}) > 1:
        return [inspect(filters, [image])[0] for image in images]
    if not images:
        return []
    pixels = to_tensor(images)
    columns = [_checked(filter_, pixels) for filter_ in filters]
    return [tuple(row) for row in zip(*columns, strict=True)]


def judge(
    filters: Sequence[Filter],
    images: Sequence[Image.Image],
    previous: Sequence[tuple[Detection, ...]] | None = None,
) -> list[tuple[Detection, ...]]:
    """Runs the library filters on every image, and the others only on images that are clear until then.

    All library filters check every image, since a steered picture is pushed away from whatever they match.

    Args:
        filters: the filters.
        images: the images.
        previous: per image, the detections from before; they come first in the result.

    Returns:
        One tuple of detections per image.
    """
    detections: list[tuple[Detection, ...]] = list(previous) if previous is not None else [()] * len(images)
    library_filters = [filter_ for filter_ in filters if getattr(filter_, "cost", "") == "library"]
    other_filters = [filter_ for filter_ in filters if getattr(filter_, "cost", "") != "library"]
    for stage, every_image in ((library_filters, True), (other_filters, False)):
        indices = [i for i, row in enumerate(detections) if every_image or not any(d.flagged for d in row)]
        if stage and indices:
            rows = inspect(stage, [images[i] for i in indices])
            for i, row in zip(indices, rows, strict=True):
                detections[i] = (*detections[i], *row)
    return detections


def flagged(detections: Iterable[Detection]) -> bool:
    """Returns whether any filter flags; an image that no filter has checked is flagged too."""
    rows = list(detections)
    return not rows or any(row.flagged for row in rows)


def answers(filter_: NamedFilter, check: Callable[[], Sequence[Detection]], count: int) -> list[Detection]:
    """Runs a filter's check on `count` images or prompts; if it fails, all of them are flagged.

    Args:
        filter_: the filter, for its name and threshold.
        check: returns its detections.
        count: how many detections there must be.

    Returns:
        The detections. Where the check raises, or returns another number of them, each is flagged and carries
        the error.
    """
    try:
        with torch.no_grad():
            detections = list(check())
        if len(detections) != count or not all(isinstance(row, Detection) for row in detections):
            raise TypeError(f"returned {len(detections)} detections for {count} images")
    except Exception as error:  # a filter that fails has not seen the image, so the image is flagged
        raise_if_lost(error)
        reason = f"{type(error).__name__}: {error}"
        return [
            Detection(
                filter=filter_.name,
                flagged=True,
                score=math.nan,
                threshold=filter_.threshold,
                error=reason,
            )
        ] * count
    # made anew, so that `flagged` follows from score and threshold in a subclass of Detection as well
    names = [field.name for field in fields(Detection)]
    return [Detection(*(getattr(row, name) for name in names)) for row in detections]


def _checked(filter_: Filter, pixels: Tensor) -> list[Detection]:
    # a copy, so that a filter which changes its input in place does not change what the next one sees
    return answers(filter_, lambda: filter_.check(pixels.clone()), len(pixels))


__getattr__ = moved(__name__, {"to_image": "steerclear.pixels:to_image"})  # an old name, for one release
