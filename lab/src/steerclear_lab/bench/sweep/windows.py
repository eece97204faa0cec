"""Square windows of a picture, and its pixel distances to the protected pictures in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.filters.pixel import TILES
from steerclear.pixels import fit

SHARES = (1.0, 0.87, 0.75, 0.62, 0.5)  # of the shorter side
SIDES = (48, 64, 96)  # pixels: a model may repeat what it knows in its native size, however large the picture
LEAST = 24  # pixels of a window's side
COARSE, FINE = 32, 64  # pixels at which windows are compared: everywhere, and where it is worth a closer look
CLOSER = 6  # windows that are looked at more closely, of each kind
FLAT = 0.03  # standard deviation below which a window shows nothing

Box = tuple[int, int, int]  # left, top, side in pixels


@dataclass(frozen=True)
class PixelMatch:
    """A window and the protected picture that it was compared with.

    Attributes:
        row: of the protected picture among those that were given.
        box: of the window; the whole picture, squashed to a square, where its side is 0.
        l2: root mean squared pixel distance, in [0, 1].
        tiled: the largest such distance among 4 × 4 tiles.
        structure: correlation of the two, in [−1, 1]: near 0 for different pictures on the same plain ground.
    """

    row: int
    box: Box
    l2: float
    tiled: float
    structure: float


def sides(height: int, width: int) -> list[int]:
    """Sides of the windows of a picture, in pixels, the largest first."""
    shorter = min(height, width)
    some = {round(share * shorter) for share in SHARES} | {side for side in SIDES if side <= shorter}
    return sorted((side for side in some if side >= LEAST), reverse=True)


def boxes(height: int, width: int, *, stride: float) -> Iterator[Box]:
    """Windows over the whole picture, `stride` of their side apart."""
    for side in sides(height, width):
        step = max(1, round(side * stride))
        for top in _starts(height, side, step):
            for left in _starts(width, side, step):
                yield left, top, side


def cut(picture: Tensor, some: Sequence[Box], size: int) -> Tensor:
    """Windows (B, 3, size, size) of a picture (3, H, W); a side of 0 is the whole picture, squashed."""
    return torch.cat(
        [
            fit(picture[None, :, top : top + side, left : left + side] if side else picture[None], size)
            for left, top, side in some
        ]
    )


def distances(windows: Tensor, protected: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel distance and correlation of all windows and all protected pictures.

    Args:
        windows: (B, 3, S, S) in [0, 1].
        protected: (N, 3, S, S) in [0, 1].

    Returns:
        (B, N) distances, and (B, N) correlations.
    """
    q, p = windows.flatten(1), protected.flatten(1)
    n = q.shape[1]
    squared = q.square().mean(1, keepdim=True) - 2 * (q @ p.T) / n + p.square().mean(1)
    q, p = q - q.mean(1, keepdim=True), p - p.mean(1, keepdim=True)
    spread = q.square().mean(1).sqrt().clamp(min=FLAT)[:, None] * p.square().mean(1).sqrt().clamp(min=FLAT)
    return squared.clamp(min=0).sqrt(), (q @ p.T) / n / spread


def tiled(windows: Tensor, protected: Tensor) -> Tensor:
    """The largest distance among 4 × 4 tiles of pairs (B, 3, S, S): (B,)."""
    squared = (windows - protected).square().mean(1, keepdim=True)
    return F.adaptive_avg_pool2d(squared, TILES).flatten(1).amax(1).sqrt()


class PixelSearch:
    """Looks for protected pictures in all windows of a picture, by pixels.

    Args:
        protected: (N, 3, 64, 64) in [0, 1], with what else is looked for, such as mirrored copies and parts.
    """

    def __init__(self, protected: Tensor) -> None:
        self.fine = fit(protected, FINE)
        self.coarse = F.interpolate(self.fine, size=(COARSE, COARSE), mode="area")

    def __call__(self, picture: Tensor) -> list[PixelMatch]:
        """The windows of a picture (3, H, W) that are nearest, by each of the measures."""
        height, width = picture.shape[-2:]
        candidates: list[tuple[Box, int]] = []
        for side in sides(height, width):
            scaled = [max(COARSE, round(length * COARSE / side)) for length in (height, width)]
            small = F.interpolate(
                picture[None], size=scaled, mode="bicubic", antialias=True, align_corners=False
            ).clamp(0, 1)
            candidates += self._coarsely(small, side, (height, width))
        if height != width:
            candidates += [((0, 0, 0), row) for row in range(len(self.fine))]
        return self._closely(picture, self._nearest(picture, candidates))

    def _coarsely(self, small: Tensor, side: int, shape: tuple[int, int]) -> list[tuple[Box, int]]:
        """Pairs of a window and a protected picture at one scale that are worth a closer look."""
        columns = small.shape[-1] - COARSE + 1
        unfolded = F.unfold(small, COARSE)[0].T
        pairs: list[tuple[float, float, int, int]] = []
        for first in range(0, len(unfolded), 4096):
            l2, structure = distances(unfolded[first : first + 4096].view(-1, 3, COARSE, COARSE), self.coarse)
            for score in (-l2, structure - 2 * (l2 - 0.1).clamp(min=0)):
                at = score.flatten().topk(min(CLOSER, score.numel())).indices
                values = zip(
                    l2.flatten()[at].tolist(), structure.flatten()[at].tolist(), at.tolist(), strict=True
                )
                pairs += [(d, c, first + i // l2.shape[1], i % l2.shape[1]) for d, c, i in values]
        scale = side / COARSE
        best = sorted(pairs)[:CLOSER] + sorted(pairs, key=lambda pair: -pair[1])[:CLOSER]
        return [
            (
                (
                    min(round(at % columns * scale), shape[1] - side),
                    min(round(at // columns * scale), shape[0] - side),
                    side,
                ),
                row,
            )
            for _, _, at, row in best
        ]

    def _nearest(self, picture: Tensor, candidates: list[tuple[Box, int]]) -> list[tuple[Box, int]]:
        """The best of all scales, each with its neighbours a pixel of the fine comparison away."""
        candidates = list(dict.fromkeys(candidates))
        if not candidates:
            return []
        matches = self._closely(picture, candidates)
        best = [
            match
            for measure in (_by_l2, _by_tiles, _by_structure)
            for match in sorted(matches, key=measure)[:CLOSER]
        ]
        height, width = picture.shape[-2:]
        around = [(box, m.row) for m in best for box in _neighbours(m.box, height, width)]
        return list(dict.fromkeys(around))

    def _closely(self, picture: Tensor, pairs: list[tuple[Box, int]]) -> list[PixelMatch]:
        """The exact measures of pairs, at the protected pictures' size."""
        some = list(dict.fromkeys(box for box, _ in pairs))
        at = {box: i for i, box in enumerate(some)}
        if not some:
            return []
        pixels = cut(picture, some, FINE)
        rows = torch.tensor([row for _, row in pairs])
        places = torch.tensor([at[box] for box, _ in pairs])
        l2, structure = distances(pixels, self.fine)
        by_tiles = tiled(pixels[places], self.fine[rows])
        return [
            PixelMatch(
                row,
                box=box,
                l2=float(l2[at[box], row]),
                tiled=float(by_tiles[i]),
                structure=float(structure[at[box], row]),
            )
            for i, (box, row) in enumerate(pairs)
        ]


def _by_l2(match: PixelMatch) -> float:
    return match.l2


def _by_tiles(match: PixelMatch) -> float:
    return match.tiled


def _by_structure(match: PixelMatch) -> float:
    return -match.structure


def _neighbours(box: Box, height: int, width: int) -> Iterator[Box]:
    """A window and those around it, a pixel of the fine comparison away."""
    left, top, side = box
    if not side:
        yield box
        return
    step = max(1, round(side / FINE))
    for dy in (-step, 0, step):
        for dx in (-step, 0, step):
            yield min(max(left + dx, 0), width - side), min(max(top + dy, 0), height - side), side


def _starts(length: int, side: int, step: int) -> list[int]:
    """Where windows begin: every `step`, and at the far edge."""
    return sorted({*range(0, length - side + 1, step), length - side})
