"""Step 2 of a request, and its verification: every filter looks at every image, and no failure counts as clear."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from steerclear._moved import moved
from steerclear.pixels import to_tensor
from steerclear.types import Detection


class NamedFilter(Protocol):
    """What every filter has, whatever it looks at."""

    @property
    def name(self) -> str: ...
    @property
    def threshold(self) -> float: ...


@runtime_checkable
class Filter(NamedFilter, Protocol):
    """Decides flagged or clear. Scores grow with the danger: flagged when score ≥ threshold.

    A filter may have a `cost`: "library" where it compares with the protected pictures, else it counts as "network", and
    does not look at what a library filter has flagged. One with `check_prompts` or `check_pass` instead of `check` sees
    prompts or the run of the pipeline: see `PromptFilter` and `MemorizationFilter`.
    """

    def check(self, images: Tensor) -> list[Detection]:
        """images: (B, 3, H, W) in [0, 1]. One detection per image, in order."""
        ...


@runtime_checkable
class PromptsFilter(NamedFilter, Protocol):
    """Decides before anything is denoised."""

    def check_prompts(self, prompts: Sequence[str]) -> list[Detection]:
        """One detection per prompt, in order."""
        ...


@runtime_checkable
class PassFilter(NamedFilter, Protocol):
    """Decides by how a pass went. steps: how many scheduler steps it needs to see."""

    @property
    def steps(self) -> int: ...

    def check_pass(self, magnitudes: list[Tensor], resumed: bool, batch: int) -> list[Detection]:
        """See `MemorizationFilter.check_pass`."""
        ...


def inspect(filters: Sequence[Filter], images: Sequence[Image.Image]) -> list[tuple[Detection, ...]]:
    """All filters' findings on each image. A filter that raises, returns too few, or scores NaN flags."""
    if len({image.size for image in images}) > 1:
        return [inspect(filters, [image])[0] for image in images]
    if not images:
        return []
    pixels = to_tensor(images)
    columns = [_checked(one, pixels) for one in filters]
    return [tuple(row) for row in zip(*columns, strict=True)]


def judge(
    filters: Sequence[Filter],
    images: Sequence[Image.Image],
    known: Sequence[tuple[Detection, ...]] | None = None,
) -> list[tuple[Detection, ...]]:
    """The findings that decide on each image: library filters first, the others only on what is clear until then.

    All library filters look at every image, since what they match is what a steered picture is pushed away from.
    known: one tuple per image of what was found before, which comes first in the result.
    """
    found: list[tuple[Detection, ...]] = list(known) if known is not None else [()] * len(images)
    library = [one for one in filters if getattr(one, "cost", "") == "library"]
    rest = [one for one in filters if getattr(one, "cost", "") != "library"]
    for stage, everything in ((library, True), (rest, False)):
        asked = [i for i, row in enumerate(found) if everything or not any(d.flagged for d in row)]
        if stage and asked:
            for i, more in zip(asked, inspect(stage, [images[i] for i in asked]), strict=True):
                found[i] = (*found[i], *more)
    return found


def flagged(detections: Iterable[Detection]) -> bool:
    """Whether any filter flags; an image that no filter has seen is flagged too."""
    found = list(detections)
    return not found or any(d.flagged for d in found)


def answers(one: NamedFilter, ask: Callable[[], Sequence[Detection]], count: int) -> list[Detection]:
    """What a filter says of `count` things; an error, or another number of detections, flags them all."""
    try:
        with torch.no_grad():
            found = list(ask())
        if len(found) != count or not all(isinstance(d, Detection) for d in found):
            raise TypeError(f"returned {len(found)} detections for {count} images")
    except Exception as error:  # whatever goes wrong in a filter: it could not see, so the image is flagged
        reason = f"{type(error).__name__}: {error}"
        return [Detection(one.name, True, math.nan, one.threshold, error=reason)] * count
    return found


def _checked(one: Filter, pixels: Tensor) -> list[Detection]:
    # a copy, since an encoder that works in place must not blind the next
    return answers(one, lambda: one.check(pixels.clone()), len(pixels))


__getattr__ = moved(__name__, {"to_image": "steerclear.pixels:to_image"})  # an old name, for one release
