"""The image features of the copy detector: at each pixel the direction of the strongest change of colour, and
how clear it is.

The maps ignore the sign of contrast, and nearly ignore hue, gamma and contrast. They come from the colour
structure tensor (Di Zenzo 1986) in double-angle form, divided by the edge strength of the surroundings.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FLOOR = 0.01  # change of colour per pixel that counts as noise: JPEG blocks and grain on a plain ground
SURROUNDINGS = 9  # side in pixels of the square whose mean strength normalises a pixel's


def gradients(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Change of each channel per pixel, to the right and downwards (Scharr's kernel): two of (B, C, H, W)."""
    padded = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., :, 2:] - padded[..., :, :-2]) / 2
    down = (padded[..., 2:, :] - padded[..., :-2, :]) / 2
    right = (3 * across[..., :-2, :] + 10 * across[..., 1:-1, :] + 3 * across[..., 2:, :]) / 16
    below = (3 * down[..., :-2] + 10 * down[..., 1:-1] + 3 * down[..., 2:]) / 16
    return right, below


def orientation_maps(pixels: Tensor, floor: float = FLOOR) -> tuple[Tensor, Tensor]:
    """Double-angle orientation of the colour gradient, evened out, and the gradient's strength.

    Args:
        pixels: (B, 3, H, W) in [0, 1].
        floor: change of colour per pixel that counts as noise.

    Returns:
        maps (B, 2, H, W): (cos 2θ, sin 2θ) times a clearness in [0, 1); and strength (B, 1, H, W), the length
        of the colour gradient. An edge and its negative have the same maps.
    """
    right, below = gradients(pixels)
    xx, yy = right.square().sum(1, keepdim=True), below.square().sum(1, keepdim=True)
    xy = (right * below).sum(1, keepdim=True)
    strength = (xx + yy).sqrt()
    around = box_mean(strength, SURROUNDINGS)
    direction = torch.cat([xx - yy, 2 * xy], dim=1) / (strength + 1e-6)
    return direction / (strength + around + floor), strength


def box_mean(maps: Tensor, side: int) -> Tensor:
    """Average over the square around each pixel; at the border, the outermost pixels are repeated.

    Args:
        maps: (B, C, H, W).
        side: of the square in pixels, odd.

    Returns:
        (B, C, H, W).
    """
    reach = side // 2
    height, width = maps.shape[-2:]
    # sums of shifted views: on a CPU several times faster than pooling
    padded = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
    rows = padded[..., :height, :].clone()
    for i in range(1, side):
        rows += padded[..., i : i + height, :]
    total = rows[..., :width].clone()
    for i in range(1, side):
        total += rows[..., i : i + width]
    return total / side**2


def smoothed(maps: Tensor, passes: int = 1) -> Tensor:
    """Blur maps by a 3 × 3 box.

    Args:
        maps: (B, C, H, W).
        passes: how often.

    Returns:
        (B, C, H, W).
    """
    for _ in range(passes):
        maps = box_mean(maps, 3)
    return maps


def cell_means(maps: Tensor, cell: int) -> Tensor:
    """Average maps over a grid of square cells.

    Args:
        maps: (B, C, H, W), H and W multiples of `cell`.
        cell: side of a cell, in pixels.

    Returns:
        (B, C, H / cell, W / cell).
    """
    batch, channels, height, width = maps.shape
    return maps.reshape(batch, channels, height // cell, cell, width // cell, cell).mean(dim=(3, 5))


def shrunk(pixels: Tensor, short_side: int) -> Tensor:
    """Resize pictures to a smaller short side, antialiased.

    Args:
        pixels: (B, C, H, W).
        short_side: in pixels.

    Returns:
        (B, C, h, w); the same tensor where it is no larger already.
    """
    height, width = pixels.shape[-2:]
    factor = short_side / min(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    return F.interpolate(pixels, size=size, mode="bilinear", antialias=True, align_corners=False)


def squared(pixels: Tensor, side: int) -> Tensor:
    """Resize pictures to a square, antialiased; the aspect ratio is not kept.

    Args:
        pixels: (B, C, H, W) in [0, 1].
        side: in pixels.

    Returns:
        (B, C, side, side) in [0, 1].
    """
    if pixels.shape[-2:] == (side, side):
        return pixels
    return F.interpolate(
        pixels, size=(side, side), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
