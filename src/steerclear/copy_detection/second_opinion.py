"""A second opinion: local features that agree on one placement (SIFT, Lowe 2004).

It sees what edge directions over the whole picture do not: copies under text, in part, beside other things.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SHORT_SIDE = 256  # short side in pixels at which local features are detected
LONGEST = 1024
CONTRAST = 0.02  # SIFT's own threshold; its default of 0.04 leaves drawings with too few points
RATIO = 0.85  # nearest over second nearest distance below which two points are taken to be the same
DISTANCE = 6.0  # pixels by which a point may deviate from the placement
SCALES = (0.25, 2.6)  # smallest and largest copy, as a multiple of the protected picture
POINTS = 1000  # most local features of one picture
KEPT = 512  # protected pictures whose features stay in memory


@dataclass(frozen=True)
class Points:
    """Local features of one picture.

    Attributes:
        at: (n, 2), in pixels.
        vectors: (n, 128), of unit length.
        height: of the picture, in pixels.
        width: of the picture, in pixels.
    """

    at: NDArray[np.float32]
    vectors: NDArray[np.float32]
    height: int
    width: int


@dataclass(frozen=True)
class Agreeing:
    """How many local features agree, and the placement (2, 3) on which they do."""

    inliers: int
    placed: Tensor | None


class SecondOpinion:
    """Compares by SIFT. Keeps the points of the protected pictures that were asked for last."""

    def __init__(self) -> None:
        library: Any = cv2  # whose type stubs leave SIFT out
        self._sift = library.SIFT_create(nfeatures=POINTS, contrastThreshold=CONTRAST)
        self._known: OrderedDict[str, tuple[Points, Points]] = OrderedDict()

    def __reduce__(self) -> tuple[type[SecondOpinion], tuple[()]]:
        return SecondOpinion, ()  # OpenCV's part can be neither copied nor pickled, and is soon made again

    def points(self, picture: Tensor) -> Points:
        """Local features of a picture (3, H, W) in [0, 1]."""
        short, long = min(picture.shape[-2:]), max(picture.shape[-2:])
        factor = min(SHORT_SIDE / short, LONGEST / long)
        size = [max(16, round(side * factor)) for side in picture.shape[-2:]]
        grey = picture.float().cpu()[None].mean(1, keepdim=True)
        large = F.interpolate(grey, size=size, mode="bicubic", antialias=True, align_corners=False)[0, 0]
        keypoints, vectors = self._sift.detectAndCompute(
            (large.clamp(0, 1) * 255).round().byte().numpy(), None
        )
        if vectors is None:
            return Points(
                np.empty((0, 2), np.float32),
                vectors=np.empty((0, 128), np.float32),
                height=size[0],
                width=size[1],
            )
        # RootSIFT (Arandjelović and Zisserman 2012)
        root = np.sqrt(vectors / (np.abs(vectors).sum(1, keepdims=True) + 1e-6)).astype(np.float32)
        return Points(
            np.array([point.pt for point in keypoints], np.float32),
            vectors=root,
            height=size[0],
            width=size[1],
        )

    def compare(self, seen: Points, item: str, read: Callable[[], Tensor]) -> Agreeing:
        """Compare a picture's local features with those of a protected picture and of its mirror image.

        Args:
            seen: the features of the picture.
            item: id of the protected picture, by which its features are cached.
            read: gives the protected picture (3, H, W) in [0, 1]; called where its features are not cached.

        Returns:
            How many features agree on one placement, and that placement.
        """
        # callers in several threads may ask at once: at worst points are looked for twice
        sides = self._known.pop(item, None) or self._both_sides(read())
        self._known[item] = sides
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        plain, mirrored = (self._agree(seen, side) for side in sides)
        if mirrored.inliers > plain.inliers and mirrored.placed is not None:
            flip = torch.tensor([-1.0, 1.0, 1.0])  # u becomes −u
            return Agreeing(mirrored.inliers, mirrored.placed * flip)
        return plain

    def _both_sides(self, picture: Tensor) -> tuple[Points, Points]:
        """Local features of a picture and of its mirror image."""
        return self.points(picture), self.points(picture.flip(-1))

    def _agree(self, seen: Points, protected: Points) -> Agreeing:
        if min(len(seen.at), len(protected.at)) < 4:
            return Agreeing(0, None)
        # of unit length, so that the largest products are the nearest
        likeness = protected.vectors @ seen.vectors.T
        near = np.argpartition(-likeness, 1, axis=1)[:, :2]
        two = np.take_along_axis(likeness, near, 1)
        order = np.argsort(-two, axis=1)
        near, two = np.take_along_axis(near, order, 1), np.take_along_axis(two, order, 1)
        distances = np.sqrt(np.maximum(2 - 2 * two, 0))
        rows = np.nonzero(distances[:, 0] < RATIO * distances[:, 1])[0]
        if len(rows) < 4:
            return Agreeing(0, None)
        source, goal = protected.at[rows], seen.at[near[rows, 0]]
        cv2.setRNGSeed(0)
        placed, agree = cv2.estimateAffinePartial2D(
            source, goal, method=cv2.RANSAC, ransacReprojThreshold=DISTANCE, maxIters=2000
        )
        if placed is None:
            return Agreeing(0, None)
        scale = float(np.hypot(placed[0, 0], placed[1, 0]))
        if not SCALES[0] <= scale <= SCALES[1]:
            return Agreeing(0, None)
        hits = agree[:, 0].astype(bool)
        return Agreeing(
            min(_distinct(source[hits]), _distinct(goal[hits])), _in_own_coordinates(placed, protected, seen)
        )


def _distinct(at: NDArray[np.float32]) -> int:
    """How many different places: points with two directions lie in one."""
    return len(np.unique((at / DISTANCE).round().astype(int), axis=0)) if len(at) else 0


def _in_own_coordinates(placed: NDArray[Any], protected: Points, seen: Points) -> Tensor:
    """A map between pixels as one between coordinates from −1 to 1."""
    to_pixels = np.array(
        [[protected.width / 2, 0, protected.width / 2], [0, protected.height / 2, protected.height / 2]]
    )
    linear, shift = placed[:, :2] @ to_pixels[:, :2], placed[:, :2] @ to_pixels[:, 2:] + placed[:, 2:]
    scale = np.array([[2 / seen.width], [2 / seen.height]])
    return torch.from_numpy(np.concatenate([linear * scale, shift * scale - 1], 1)).float()
