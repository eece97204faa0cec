"""First look: which protected pictures come near to any window of a picture, by whitened orientation maps and
one product.

Whitening (PCA) takes away what most pictures share, such as a subject in the middle of a plain ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.copy_detection.features import orientation_maps, shrunk, smoothed, squared
from steerclear.copy_detection.windows import TURNS, compose, inverse, native_scales, parts, sample, windows
from steerclear.errors import InputError

WINDOW = 32  # side in pixels at which a window is looked at
CELLS = 16  # side of the maps that are compared
WIDTH = 96  # numbers kept of a window
LONG = 1.06  # a picture whose sides differ by more is looked at squeezed into a square as well
RIDGE = 0.02  # share of the mean variance that is added, so that whitening does not blow up noise
FAINT_PART = 0.3  # a part with less strength than this share of its whole is not looked for
FAINT_WINDOW = 0.25  # a window with less strength than this share of the picture's strongest is not looked at
BLANK = 1e-3  # mean change of colour per pixel below which there is nothing to see


@dataclass(frozen=True)
class Whitening:
    """Takes described windows (n, 2 · CELLS²) to (n, WIDTH) of unit length. mean: (D,); basis: (D, WIDTH)."""

    mean: Tensor
    basis: Tensor

    def __call__(self, described: Tensor) -> Tensor:
        return F.normalize((described - self.mean) @ self.basis, dim=-1)

    def to(self, device: torch.device | str) -> Whitening:
        return Whitening(self.mean.to(device), self.basis.to(device))


@dataclass(frozen=True)
class Looks:
    """Windows of one picture as they are compared: vectors (W, WIDTH) of unit length, and their maps (W, 2,
    3).
    """

    vectors: Tensor
    maps: Tensor


@dataclass(frozen=True)
class Sought:
    """What is looked for: parts of the protected pictures in their symmetries.

    vectors: (n, WIDTH) of unit length, in half precision; owners: (n,) row of the protected picture, rising,
    int32; kinds: (n,) row of `maps`, int16, which are (K, 2, 3) from a window's coordinates to the protected
    picture's.
    """

    vectors: Tensor
    owners: Tensor
    kinds: Tensor
    maps: Tensor


@dataclass(frozen=True)
class Nominees:
    """Where the protected side may lie in one picture, best first.

    items: (n,) row of the protected picture; nearness: (n,) cosine; placed: (n, 2, 3) maps from the protected
    picture's coordinates to the picture's.
    """

    items: Tensor
    nearness: Tensor
    placed: Tensor


def describe(level: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Windows as numbers.

    Args:
        level: (B, 3, H, W) pictures at a size at which a window has about WINDOW pixels.
        maps: (W, 2, 3) windows, turned by no more than a few tenths of a radian.

    Returns:
        (B, W, 2 · CELLS²), and the windows' mean strength (B, W).
    """
    orientation, strength = orientation_maps(level)
    cells = sample(smoothed(torch.cat([orientation, strength], 1), 2), maps, CELLS)
    # a window that is turned sees every direction turned: twice, in double angle
    height, width = level.shape[-2:]
    angle = 2 * torch.atan2(maps[:, 1, 0] * height, maps[:, 0, 0] * width)
    c, s = angle.cos()[:, None, None], angle.sin()[:, None, None]
    turned = torch.stack(
        [c * cells[:, :, 0] + s * cells[:, :, 1], c * cells[:, :, 1] - s * cells[:, :, 0]], 2
    )
    return (turned * _rim(turned)).flatten(2), cells[:, :, 2].mean(dim=(2, 3))


def fit_whitening(pictures: Tensor, width: int = WIDTH) -> Whitening:
    """The whitening of pictures' windows and parts.

    Args:
        pictures: (N, 3, H, W) in [0, 1]: ordinary ones, or the protected ones themselves where there are no
            others.
        width: numbers kept.

    Raises:
        InputError: no picture has any structure.
    """
    upright = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    described = []
    for version in (pictures, pictures.flip(-1), pictures.transpose(-1, -2), pictures.rot90(1, (-2, -1))):
        rows, _, _ = _described_parts(version, upright)
        described.append(rows)
    rows = torch.cat(described)
    if len(rows) < 2:
        raise InputError("there is no picture with any structure to fit the copy detector's whitening on")
    mean = rows.mean(0)
    centred = (rows - mean).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    scale = (values + RIDGE * values.mean()).rsqrt()
    return Whitening(mean, (vectors * scale).float())


def seek(pictures: Tensor, mirrors: Tensor, whitening: Whitening) -> Sought:
    """What is looked for of protected pictures (N, 3, S, S) in [0, 1], in their symmetries `mirrors` (S, 2,
    3).

    Parts with little structure are left out: blanks match everything.
    """
    rows, owners, kinds = _described_parts(pictures, mirrors)
    maps = compose(parts().to(mirrors)[:, None], mirrors[None]).flatten(0, 1)
    return Sought(whitening(rows).half(), owners.int(), kinds.short(), maps.to(pictures))


def look(pictures: Tensor, whitening: Whitening, native: int | None = None) -> list[Looks]:
    """Describe every window of each picture.

    Args:
        pictures: (B, 3, H, W) in [0, 1], finite.
        whitening: as fitted, on the pictures' device.
        native: side in pixels of the smallest copy to look for in pictures that are larger.

    Returns:
        One for each picture; without windows for a picture that has no structure at all.
    """
    height, width = pictures.shape[-2:]
    versions = [pictures]
    if max(height, width) > LONG * min(height, width):
        # protected pictures are compared as squares, so a long picture may show one that was squeezed as it
        # is now
        versions.append(squared(pictures, round(math.sqrt(height * width))))
    rows, strengths, maps = [], [], []
    for version in versions:
        height, width = version.shape[-2:]
        scales = native_scales(height, width, native)
        for layer, scale in zip(windows(height, width, scales, TURNS), scales, strict=True):
            placed = layer.to(pictures)
            described, strength = describe(shrunk(version, round(WINDOW / scale)), placed)
            rows.append(whitening(described))
            strengths.append(strength)
            maps.append(placed)
    vectors, strength, placed = torch.cat(rows, 1), torch.cat(strengths, 1), torch.cat(maps)
    clear = (strength >= FAINT_WINDOW * strength.amax(1, keepdim=True)) & (strength > BLANK)
    return [Looks(vectors[i, kept], placed[kept]) for i, kept in enumerate(clear)]


def nominate(
    looks: Looks, sought: Sought, *, items: int, each: int, keep: int, at_once: int = 1 << 16
) -> Nominees:
    """The protected pictures nearest to any window, with the likeliest placements of each.

    Args:
        looks: of one picture.
        sought: of the protected side, on the same device.
        items: protected pictures kept.
        each: placements kept of each.
        keep: placements kept in all.
        at_once: parts in one product.
    """
    if not len(looks.vectors) or not len(sought.vectors):
        nothing = looks.vectors.new_empty(0)
        return Nominees(nothing.long(), nothing, nothing.reshape(0, 2, 3))
    best, at = [], []
    for start in range(0, len(sought.vectors), at_once):
        near = sought.vectors[start : start + at_once].to(looks.vectors) @ looks.vectors.T
        value, window = near.max(1)
        best.append(value)
        at.append(window)
    nearness, window = torch.cat(best), torch.cat(at)
    owners = sought.owners.long()
    count = int(owners[-1]) + 1
    of_item = nearness.new_full((count,), -1.0).scatter_reduce(0, owners, nearness, "amax")
    chosen = of_item.topk(min(items, count)).indices
    row = _best_parts(nearness, owners, chosen, each)
    row = row[nearness[row].argsort(descending=True)[:keep]]
    placed = compose(looks.maps[window[row]], inverse(sought.maps[sought.kinds[row].long()]))
    return Nominees(owners[row], nearness[row], placed)


def _best_parts(nearness: Tensor, owners: Tensor, items: Tensor, each: int) -> Tensor:
    """Rows of the `each` nearest parts of each of `items`."""
    wanted = torch.zeros(int(owners[-1]) + 1, dtype=torch.bool, device=owners.device)
    wanted[items] = True
    rows = wanted[owners].nonzero().flatten()
    rows = rows[nearness[rows].argsort(descending=True)]
    rows = rows[owners[rows].argsort(stable=True)]
    owner = owners[rows].contiguous()
    rank = torch.arange(len(rows), device=rows.device) - torch.searchsorted(owner, owner)
    return rows[rank < each]


def _rim(cells: Tensor) -> Tensor:
    """Weights that fade towards a window's border, where a neighbour's edges show."""
    at = torch.arange(CELLS, device=cells.device, dtype=cells.dtype)
    fade = ((torch.minimum(at, CELLS - 1 - at) + 0.5) / 2).clamp(max=1)
    return fade[:, None] * fade[None]


def _described_parts(pictures: Tensor, mirrors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Described parts (n, D), their owners (n,), rising, and kinds (n,), without the faint ones."""
    boxes = parts().to(pictures)
    sides = boxes[:, 0, 0]
    whole = squared(pictures, 2 * WINDOW)
    rows, strengths = [], []
    for mirror in mirrors.to(pictures)[:, None]:
        # the picture is sampled through the symmetry, exactly, and in it the part lies upright again
        shown = sample(whole, mirror, 2 * WINDOW)[:, 0]
        lying = compose(inverse(mirror), compose(boxes, mirror))
        described = pictures.new_empty(len(pictures), len(boxes), 2 * CELLS * CELLS)
        strength = pictures.new_empty(len(pictures), len(boxes))
        for side in sorted(set(sides.tolist())):
            mine = sides == side
            described[:, mine], strength[:, mine] = describe(shrunk(shown, round(WINDOW / side)), lying[mine])
        rows.append(described)
        strengths.append(strength)
    # kinds run over parts first and symmetries last, as in `seek`
    row, strength = torch.stack(rows, 2).flatten(1, 2), torch.stack(strengths, 2).flatten(1, 2)
    clear = (strength >= FAINT_PART * strength[:, :1]) & (strength > BLANK)
    owners, kinds = clear.nonzero(as_tuple=True)
    return row[owners, kinds], owners, kinds
