"""Step 2 of a request, and its verification: every filter looks at every image, and no failure counts as clear."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steerclear.types import Detection


class Filter(Protocol):
    """Decides flagged or clear. Scores grow with the danger: flagged when score ≥ threshold."""

    @property
    def name(self) -> str: ...
    @property
    def threshold(self) -> float: ...

    def check(self, images: Tensor) -> list[Detection]:
        """images: (B, 3, H, W) in [0, 1]. One detection per image, in order."""
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


def flagged(detections: Iterable[Detection]) -> bool:
    """Whether any filter flags; an image that no filter has seen is flagged too."""
    found = list(detections)
    return not found or any(d.flagged for d in found)


def to_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Pixels as they are handed out: (B, 3, H, W) in [0, 1]."""
    arrays = [np.asarray(image.convert("RGB"), dtype=np.float32) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous() / 255


def _checked(one: Filter, pixels: Tensor) -> list[Detection]:
    try:
        with torch.no_grad():
            found: list[Detection] = list(
                one.check(pixels.clone())
            )  # an encoder that works in place must not blind the next
        if len(found) != len(pixels) or not all(isinstance(d, Detection) for d in found):
            raise TypeError(f"returned {len(found)} detections for {len(pixels)} images")
    except Exception as error:  # whatever goes wrong in a filter: it could not see, so the image is flagged
        reason = f"{type(error).__name__}: {error}"
        return [Detection(one.name, True, math.nan, one.threshold, error=reason)] * len(pixels)
    return found
