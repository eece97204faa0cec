"""Second step of the copy detector: move each nominated placement until the edges of both pictures coincide.

Robust Gauss–Newton on orientation maps, over an affine map, with the mean of both pictures' slopes (efficient
second-order minimisation, Benhimane and Malis 2004). All placements at half size first, then the best of them
at full size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.copy_detection.decide import cell_agreement, without_rim
from steerclear.copy_detection.features import cell_means, orientation_maps, shrunk, smoothed
from steerclear.copy_detection.windows import compose, inverse, sample

SIDE = 64  # side in pixels at which a protected picture is compared
REACH = 1.5  # side of the neighbourhood that is looked at, as a multiple of the placement's
COARSE = (3, 2, 2, 1)  # at half size: for each step, how often its maps are blurred
FINE = (2, 1, 1)  # the same at full size
DAMPING = 0.02
LARGEST = 0.25  # largest change of an entry of a placement in one step
EDGE = 0.12  # squared residual at which a pixel starts to be distrusted


@dataclass(frozen=True)
class _Basis:
    """(x, y, 1) of each pixel of a square, and their products: (S², 3) and (S², 9)."""

    coordinates: Tensor
    products: Tensor

    @classmethod
    def of(cls, side: int, like: Tensor) -> _Basis:
        axis = torch.linspace(-1 + 1 / side, 1 - 1 / side, side).to(like)
        ys, xs = torch.meshgrid(axis, axis, indexing="ij")
        coordinates = torch.stack([xs, ys, torch.ones_like(xs)], -1).flatten(0, 1)
        return cls(coordinates, (coordinates[:, :, None] * coordinates[:, None]).flatten(1))


def levels(picture: Tensor) -> list[Tensor]:
    """An image pyramid: the picture at falling sizes, each smaller by √2, down to a short side of SIDE.

    Args:
        picture: (3, H, W).

    Returns:
        One tensor (1, 3, h, w) for each level, the largest first.
    """
    pyramid = [picture[None]]
    short = float(min(picture.shape[-2:]))
    while short / 2**0.5 >= SIDE * 0.9:
        short /= 2**0.5
        pyramid.append(shrunk(picture[None], round(short)))
    return pyramid


def spans(pyramid: list[Tensor], placed: Tensor) -> Tensor:
    """Measure how large each placement is in the picture.

    Args:
        pyramid: of one picture, see `levels`.
        placed: (n, 2, 3) placements.

    Returns:
        (n,) the shorter side of each, in pixels of the largest level.
    """
    height, width = pyramid[0].shape[-2:]
    pixels = placed.new_tensor([width, height])[:, None] / 2
    return 2 * (placed[:, :, :2] * pixels).square().sum(1).sqrt().amin(1)


def cut_patches(pyramid: list[Tensor], placed: Tensor, side: int) -> Tensor:
    """Cut out what each placement shows, from the pyramid level whose resolution fits best.

    Args:
        pyramid: of one picture, see `levels`.
        placed: (n, 2, 3) placements.
        side: of a patch, in pixels.

    Returns:
        (n, 4, side, side): RGB, and a mask that is 1 inside the picture and 0 beyond its border.
    """
    wanted = (spans(pyramid, placed) / side).clamp(min=1).log2().mul(2).round().long()
    wanted = wanted.clamp(max=len(pyramid) - 1)
    patches = placed.new_zeros(len(placed), 4, side, side)
    for index in sorted(set(wanted.tolist())):
        rows = (wanted == index).nonzero().flatten()
        patches[rows, :3] = sample(pyramid[index], placed[rows], side)[0]
    grid = F.affine_grid(placed, [len(placed), 1, side, side], align_corners=False)
    patches[:, 3] = (grid.abs().amax(-1) <= 1).to(placed.dtype)
    return patches


def align_coarsely(pyramid: list[Tensor], targets: Tensor, placed: Tensor) -> tuple[Tensor, Tensor]:
    """Align placements at half size.

    Args:
        pyramid: of one picture, see `levels`.
        targets: (n, 3, SIDE, SIDE) protected pictures.
        placed: (n, 2, 3) first guesses: maps from the protected picture's coordinates to the picture's.

    Returns:
        The aligned placements (n, 2, 3), and how well each agrees, in [0, 1]: (n,).
    """
    small_targets = cell_means(targets, 2)
    patches, within = _neighbourhoods(pyramid, placed, SIDE // 2)
    placed = compose(
        placed,
        compose(_enlarged(placed), refine(patches, targets=small_targets, within=within, blurs=COARSE)),
    )
    cut = cut_patches(pyramid, placed, SIDE // 2)
    mean, _, enough = cell_agreement(
        orientation_maps(cut[:, :3])[0], orientation_maps(small_targets)[0], without_rim(cut[:, 3:])
    )
    return placed, mean * enough


def align_finely(pyramid: list[Tensor], targets: Tensor, placed: Tensor) -> Tensor:
    """Align placements at full size.

    Args:
        pyramid: of one picture, see `levels`.
        targets: (n, 3, SIDE, SIDE) protected pictures.
        placed: (n, 2, 3) placements that were aligned at half size.

    Returns:
        The aligned placements (n, 2, 3).
    """
    patches, within = _neighbourhoods(pyramid, placed, SIDE)
    moved = compose(_enlarged(placed), refine(patches, targets=targets, within=within, blurs=FINE))
    return compose(placed, moved)


def _neighbourhoods(pyramid: list[Tensor], placed: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """What lies around each placement, REACH times as wide, and the placement's own map in it."""
    wider = _enlarged(placed)
    return cut_patches(pyramid, compose(placed, wider), round(REACH * side)), inverse(wider)


def _enlarged(placed: Tensor) -> Tensor:
    return placed.new_tensor([[REACH, 0.0, 0.0], [0.0, REACH, 0.0]]).expand(len(placed), 2, 3)


def refine(patches: Tensor, targets: Tensor, within: Tensor, blurs: Sequence[int]) -> Tensor:
    """Run robust Gauss–Newton steps on placements.

    Args:
        patches: (n, 4, P, P) the picture around each placement: RGB and mask.
        targets: (n, 3, S, S) protected pictures.
        within: (n, 2, 3) placements, in the coordinates of their patches.
        blurs: one entry for each step: how often its maps are blurred.

    Returns:
        (n, 2, 3) refined placements. One that diverges or collapses is returned as it was.
    """
    goal = orientation_maps(targets)[0]
    basis = _Basis.of(targets.shape[-1], targets)
    moved, blurred = within, {passes: smoothed(goal, passes) for passes in set(blurs)}
    for passes in blurs:
        moved = _step(patches, goal=blurred[passes], within=moved, basis=basis, passes=passes)
    change = compose(inverse(within), moved)
    grown = torch.linalg.det(change[:, :, :2])
    sane = (grown > 0.4) & (grown < 2.5) & (change[:, :, 2].abs().amax(1) < 0.7)
    return torch.where(sane[:, None, None], moved, within)


def resample(patches: Tensor, within: Tensor, side: int) -> Tensor:
    """Sample patches through placements.

    Args:
        patches: (n, C, P, P).
        within: (n, 2, 3) placements, in the coordinates of their patches.
        side: of the result, in pixels.

    Returns:
        (n, C, side, side).
    """
    grid = F.affine_grid(within, [len(within), 1, side, side], align_corners=False)
    return F.grid_sample(patches, grid, padding_mode="border", align_corners=False)


def _step(patches: Tensor, goal: Tensor, within: Tensor, basis: _Basis, passes: int) -> Tensor:
    resampled = resample(patches, within, goal.shape[-1])
    maps = smoothed(orientation_maps(resampled[:, :3])[0], passes)
    apart = maps - goal
    doubt = apart.square().sum(1, keepdim=True)
    trust = resampled[:, 3:] * (EDGE / (EDGE + doubt)).square()
    across, down = _slopes((maps + goal) / 2)
    # normal equations of a change I + δ of the placement: each slope goes with (x, y, 1), summed over both
    # maps
    pull_x, pull_y = across * trust, down * trust
    curves = torch.stack([(pull_x * across).sum(1), (pull_x * down).sum(1), (pull_y * down).sum(1)], 1)
    xx, xy, yy = (curves.flatten(2) @ basis.products).reshape(-1, 3, 3, 3).unbind(1)
    normal = torch.cat([torch.cat([xx, xy], 2), torch.cat([xy, yy], 2)], 1)
    pulls = torch.stack([(pull_x * apart).sum(1), (pull_y * apart).sum(1)], 1)
    gradient = (pulls.flatten(2) @ basis.coordinates).flatten(1)
    diagonal = normal.diagonal(dim1=1, dim2=2)
    damped = normal + torch.diag_embed(DAMPING * diagonal + 1e-4 * diagonal.mean(1, keepdim=True) + 1e-6)
    change = -torch.linalg.solve(damped, gradient).clamp(-LARGEST, LARGEST).reshape(-1, 2, 3)
    return compose(within, torch.eye(2, 3).to(change) + change)


def _slopes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Change per unit of the coordinates, to the right and downwards. maps: (n, C, S, S), 2 / S of a unit a
    pixel.
    """
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    scale = maps.shape[-1] / 4
    return (
        (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) * scale,
        (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) * scale,
    )
