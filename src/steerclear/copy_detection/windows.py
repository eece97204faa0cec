"""Where the copy detector looks: windows of a picture, parts and symmetries of a protected one, as maps.

A map is a (2, 3) matrix that takes the square [−1, 1]² to a picture's own coordinates, which also run from −1
to 1 along each side (torch's `grid_sample`, align_corners=False).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SCALES = (1.0, 0.84, 0.7, 0.59, 0.5, 0.42)  # side of a window, as a share of the picture's short side
TURNS = (-0.2, 0.0, 0.2)  # radians
STEP = 0.25  # distance of neighbouring windows, as a share of their side
# Smaller windows are not rotated, and lie closer together: a border takes a larger share of them, and fewer
# others overlap with them.
SMALL, SMALL_STEP = 0.55, 0.17
SMALLEST, SMALLEST_STEP, SMALLEST_RATIO = SCALES[-1], 0.125, 0.88
PART_SCALES = (
    (0.84, 2),
    (0.7, 3),
    (0.5, 3),
)  # side of a part over the protected picture's, and parts along a side


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Compose affine maps: `inner` is applied first, then `outer`.

    Args:
        outer: (…, 2, 3).
        inner: (…, 2, 3).

    Returns:
        (…, 2, 3).
    """
    linear = outer[..., :2] @ inner[..., :2]
    shift = outer[..., :2] @ inner[..., 2:] + outer[..., 2:]
    return torch.cat([linear, shift], dim=-1)


def inverse(maps: Tensor) -> Tensor:
    """The maps that undo `maps` (…, 2, 3)."""
    linear = torch.linalg.inv(maps[..., :2])
    return torch.cat([linear, -linear @ maps[..., 2:]], dim=-1)


def symmetries(mirrored: bool = True, turned: bool = True) -> Tensor:
    """The symmetries of the square in which protected pictures are looked for.

    Args:
        mirrored: with mirror images.
        turned: with quarter turns.

    Returns:
        (S, 2, 3) maps, the identity first: S is 8 with both, 2 or 4 with one, else 1.
    """
    linear = []
    for flip in (1.0, -1.0) if mirrored else (1.0,):
        for quarter in range(4 if turned else 1):
            c, s = round(math.cos(quarter * math.pi / 2)), round(math.sin(quarter * math.pi / 2))
            linear.append([[flip * c, -flip * s, 0.0], [float(s), float(c), 0.0]])
    return torch.tensor(linear)


def parts() -> Tensor:
    """The parts of a protected picture (23, 2, 3): the whole, four of 0.84 of its side, nine of 0.7 and nine
    of 0.5.
    """
    boxes = [(1.0, 0.0, 0.0)]
    for scale, count in PART_SCALES:
        places = [(1 - scale) * (2 * i / (count - 1) - 1) for i in range(count)]
        boxes += [(scale, x, y) for y in places for x in places]
    return torch.tensor([[[s, 0.0, x], [0.0, s, y]] for s, x, y in boxes])


def windows(
    height: int, width: int, scales: Sequence[float] = SCALES, turns: Sequence[float] = TURNS
) -> list[Tensor]:
    """The windows of a picture, one tensor (W, 2, 3) for each scale.

    Args:
        height: of the picture, in pixels; only its ratio to the width matters.
        width: of the picture, in pixels.
        scales: sides of the windows over the picture's short side.
        turns: small rotations of each window, in radians.

    Returns:
        Square windows in steps of a quarter of their side or less, which stay inside the picture but for
        their turn.
    """
    short = min(height, width)
    layers = []
    for scale in scales:
        side = scale * short
        step = side * (STEP if scale > SMALL else SMALL_STEP if scale >= SMALLEST else SMALLEST_STEP)
        centres = [(x, y) for y in _centres(side, step, height) for x in _centres(side, step, width)]
        tilts = turns if scale > SMALL else (0.0,)
        layers.append(
            torch.stack(
                [
                    _window(x, y=y, side=side, turn=t, height=height, width=width)
                    for t in tilts
                    for x, y in centres
                ]
            )
        )
    return layers


def native_scales(height: int, width: int, native: int | None) -> tuple[float, ...]:
    """Choose the sizes of windows.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        native: side in pixels of the smallest copy to look for, usually the model's own size; None for
            SCALES.

    Returns:
        SCALES; in a picture that is more than twice as large as `native`, also smaller windows, down to it.
    """
    smallest = native / min(height, width) if native else 1.0
    scales = list(SCALES)
    while scales[-1] > smallest * 1.05:
        scales.append(scales[-1] * SMALLEST_RATIO)
    return tuple(scales)


def sample(pixels: Tensor, maps: Tensor, side: int) -> Tensor:
    """Sample what windows show; beyond the picture, its border is repeated.

    Args:
        pixels: (B, C, H, W).
        maps: (W, 2, 3), the same windows for each picture.
        side: of the samples, in pixels.

    Returns:
        (B, W, C, side, side).
    """
    count, channels = len(maps), pixels.shape[1]
    grid = F.affine_grid(maps, [count, 1, side, side], align_corners=False)
    tall = grid.reshape(1, count * side, side, 2).expand(len(pixels), -1, -1, -1)
    sampled = F.grid_sample(pixels, tall, padding_mode="border", align_corners=False)
    return sampled.reshape(len(pixels), channels, count, side, side).transpose(1, 2)


def _centres(side: float, step: float, length: int) -> list[float]:
    room = length - side
    steps = math.ceil(room / step - 1e-6)
    return [length / 2] if steps < 1 else [side / 2 + room * i / steps for i in range(steps + 1)]


def _window(x: float, y: float, side: float, turn: float, height: int, width: int) -> Tensor:
    c, s = math.cos(turn), math.sin(turn)
    return torch.tensor(
        [
            [side * c / width, -side * s / width, 2 * x / width - 1],
            [side * s / height, side * c / height, 2 * y / height - 1],
        ]
    )
