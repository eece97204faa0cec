"""Altered views of a picture for the judge's training: cropped, mirrored, turned, recoloured, blurred,
covered in part, and mixed with another picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear_lab.bench.copy_judge.network import SIDE

BLURS = (0.6, 1.0, 1.6)  # standard deviations in pixels


def altered(images: Tensor, generator: torch.Generator) -> Tensor:
    """One altered view of each picture.

    Args:
        images: (B, 3, H, W) in [0, 1].
        generator: of all draws.

    Returns:
        (B, 3, 64, 64) in [0, 1].
    """
    out = cropped(images, generator)
    out = recoloured(out, generator)
    out = covered(out, generator)
    out = blurred(out, generator)
    noise = torch.randn(out.shape, generator=generator) * 0.05
    return _some(0.25, changed=out + noise, kept=out, generator=generator).clamp(0, 1)


def cropped(images: Tensor, generator: torch.Generator) -> Tensor:
    """A part of each picture, or all of it with a margin; some mirrored, some turned."""
    n = len(images)
    whole = _uniform(n, generator) < 0.3
    extent = torch.where(
        whole, 0.95 + 0.45 * _uniform(n, generator), (0.25 + 0.7 * _uniform(n, generator)).sqrt()
    )
    aspect = torch.exp((_uniform(n, generator) - 0.5) * 0.4)
    angle = (_uniform(n, generator) - 0.5) * 2 * math.radians(12) * (_uniform(n, generator) < 0.4)
    quarter = (_uniform(n, generator) < 0.4) * torch.randint(0, 4, (n,), generator=generator)
    angle = angle + quarter * math.pi / 2
    mirror = torch.where(_uniform(n, generator) < 0.5, -1.0, 1.0)
    room = (1 - extent).abs()
    x, y = ((2 * _uniform(n, generator) - 1) * room for _ in range(2))
    wide, high = extent * aspect, extent / aspect
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack(
        [
            torch.stack([mirror * wide * cos, -mirror * high * sin, x], dim=1),
            torch.stack([wide * sin, high * cos, y], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [n, 3, SIDE, SIDE], align_corners=False)
    edge = "reflection" if float(_uniform(1, generator)) < 0.3 else "border"
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=edge, align_corners=False).clamp(0, 1)


def recoloured(images: Tensor, generator: torch.Generator) -> Tensor:
    """Hue, saturation, contrast and brightness changed; some without colour, a few inverted."""
    n = len(images)

    def draw(low: float, high: float) -> Tensor:
        return (low + (high - low) * _uniform(n, generator)).view(-1, 1, 1, 1)

    grey = images.mean(1, keepdim=True)
    out = grey + (images - grey) * draw(0.4, 1.6)
    # a turn about the grey axis is a change of hue
    angle = (
        (_uniform(n, generator) - 0.5) * 2 * math.pi * torch.where(_uniform(n, generator) < 0.15, 1.0, 0.15)
    )
    out = torch.einsum("nij,njhw->nihw", hue_turns(angle), out)
    out = (out - 0.5) * draw(0.6, 1.4) + 0.5 + draw(-0.15, 0.15)
    out = _some(0.7, changed=out, kept=images, generator=generator)
    out = _some(0.08, changed=grey.expand_as(out), kept=out, generator=generator)
    out = _some(0.03, changed=1 - out, kept=out, generator=generator)
    return out.clamp(0, 1)


def hue_turns(angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) about the grey axis of the colour cube by angles (B,) in radians (Rodrigues)."""
    k = 1 / math.sqrt(3)
    cross = torch.tensor([[0, -k, k], [k, 0, -k], [-k, k, 0]])
    identity, outer = torch.eye(3), torch.full((3, 3), 1 / 3)
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    return cos * identity + sin * cross + (1 - cos) * outer


def covered(images: Tensor, generator: torch.Generator) -> Tensor:
    """A bar of one colour, or a small other picture, over a part of some."""
    out = images.clone()
    n = len(images)
    small = F.interpolate(images.roll(1, 0), size=(SIDE // 3, SIDE // 3), mode="area")
    for i in range(n):
        kind = float(_uniform(1, generator))
        if kind < 0.15:
            height = int(torch.randint(4, 16, (1,), generator=generator))
            top = int(torch.randint(0, SIDE - height, (1,), generator=generator))
            out[i, :, top : top + height] = _uniform(3, generator).view(3, 1, 1)
        elif kind < 0.3:
            top, left = (int(v) for v in torch.randint(0, SIDE - SIDE // 3, (2,), generator=generator))
            out[i, :, top : top + SIDE // 3, left : left + SIDE // 3] = small[i]
    return out


def blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    """Some softened, as a small model's pictures are: by a Gaussian, or by shrinking and growing."""
    out = images.clone()
    for sigma in BLURS:
        chosen = _uniform(len(images), generator) < 0.15
        out[chosen] = _gaussian(images[chosen], sigma)
    shrunk = F.interpolate(images, size=(SIDE // 2, SIDE // 2), mode="area")
    coarse = F.interpolate(shrunk, size=(SIDE, SIDE), mode="bilinear")
    return _some(0.12, changed=coarse, kept=out, generator=generator)


def mixed(views: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """Two pictures in each: blended, or one laid into the other.

    Args:
        views: (B, 3, 64, 64).
        others: the same.
        generator: of all draws.

    Returns:
        (B, 3, 64, 64), in which both can still be seen.
    """
    out = views.clone()
    for i in range(len(views)):
        if float(_uniform(1, generator)) < 0.35:
            share = 0.35 + 0.3 * float(_uniform(1, generator))
            out[i] = share * views[i] + (1 - share) * others[i]
            continue
        # half and half, side by side or one above the other, each shrunk or cut
        half = SIDE // 2
        vertical = float(_uniform(1, generator)) < 0.5
        shape = (SIDE, half) if vertical else (half, SIDE)
        cut = float(_uniform(1, generator)) < 0.5
        parts = []
        for part in (views[i], others[i]):
            if cut:
                start = int(torch.randint(0, half + 1, (1,), generator=generator))
                parts.append(part[:, :, start : start + half] if vertical else part[:, start : start + half])
            else:
                parts.append(F.interpolate(part[None], size=shape, mode="area")[0])
        out[i] = torch.cat(parts, dim=2 if vertical else 1)
    return out


def _gaussian(images: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(2.5 * sigma)
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    line = torch.exp(-at.square() / (2 * sigma**2))
    weights = (line / line.sum()).tolist()
    h, w = images.shape[-2:]
    # sums of shifted pictures: a convolution of single planes is several times slower on a CPU
    wide = F.pad(images, (radius,) * 4, mode="replicate")
    wide = torch.stack([weight * wide[..., i : i + w] for i, weight in enumerate(weights)]).sum(0)
    return torch.stack([weight * wide[..., i : i + h, :] for i, weight in enumerate(weights)]).sum(0)


def _some(share: float, changed: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
    """A share of the pictures changed."""
    return torch.where((_uniform(len(kept), generator) < share).view(-1, 1, 1, 1), changed, kept)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator)
