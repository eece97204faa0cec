"""First step of the copy detector: nominate the protected pictures that any window of a picture may show.

Windows and protected parts are orientation maps, projected by PCA whitening to unit vectors; one matrix
product compares all of them. Whitening removes what most pictures share, such as a subject in the middle of a
plain ground.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from steerclear.copy_detection.features import orientation_maps, shrunk, smoothed, squared
from steerclear.copy_detection.windows import TURNS, compose, inverse, native_scales, parts, sample, windows
from steerclear.fingerprints import file_fingerprint

WINDOW = 32  # side in pixels to which a window is resized
CELLS = 16  # side of a window's orientation map
WIDTH = 96  # length of a window's vector
LONG = 1.06  # a picture with a larger aspect ratio is also looked at squeezed to a square
FAINT_PART = 0.3  # a part with a smaller share of the whole's edge strength is not looked for
FAINT_WINDOW = 0.25  # a window with a smaller share of the strongest window's edge strength is skipped
BLANK = 1e-3  # mean change of colour per pixel below which a picture counts as blank
# made by steerclear_lab.bench.copy_detection.whitening
WHITENING = Path(__file__).parent / "whitening.safetensors"


@dataclass(frozen=True)
class Whitening:
    """A linear map from described windows to vectors in which common structure counts little.

    Attributes:
        mean: (D,) mean of described windows, D = 2 · CELLS².
        basis: (D, WIDTH) whitening directions (PCA).
    """

    mean: Tensor
    basis: Tensor

    def __call__(self, described: Tensor) -> Tensor:
        """Whiten described windows.

        Args:
            described: (n, D) windows, see `describe`.

        Returns:
            (n, WIDTH) vectors of unit length.
        """
        return F.normalize((described - self.mean) @ self.basis, dim=-1)

    def to(self, device: torch.device | str) -> Whitening:
        """Copy the whitening to a device."""
        return Whitening(self.mean.to(device), self.basis.to(device))


@cache
def whitening() -> Whitening:
    """The whitening that ships inside. Every library uses it, so a protected picture has the same vectors in
    all.
    """
    saved = load_file(WHITENING)
    return Whitening(saved["mean"].float(), saved["basis"].float())


@cache
def whitening_fingerprint() -> str:
    """Fingerprint of the whitening that ships inside: vectors made with another one must be made again."""
    return file_fingerprint(WHITENING)


@dataclass(frozen=True)
class Looks:
    """The described windows of one picture, in every symmetry that is looked for.

    Attributes:
        vectors: (W, WIDTH) whitened windows, of unit length.
        maps: (W, 2, 3) for each window, the affine map from the window's square [−1, 1]² to the picture's.
    """

    vectors: Tensor
    maps: Tensor


@dataclass(frozen=True)
class Nominees:
    """Candidate matches in one picture, the most similar first.

    Attributes:
        items: (n,) row of the protected picture.
        nearness: (n,) cosine in [−1, 1] of its best part with a window.
        placed: (n, 2, 3) affine maps from the protected picture's square [−1, 1]² to the picture's.
    """

    items: Tensor
    nearness: Tensor
    placed: Tensor


def describe(level: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Describe windows by the directions of their edges.

    Args:
        level: (B, 3, H, W) pictures in [0, 1], resized so that a window has about WINDOW pixels a side.
        maps: (W, 2, 3) windows, rotated by no more than a few tenths of a radian.

    Returns:
        Orientation maps (B, W, 2, CELLS, CELLS), and the mean edge strength (B, W) of each window.
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
    return turned * _rim(turned), cells[:, :, 2].mean(dim=(2, 3))


def seen_through(cells: Tensor, symmetry: Tensor) -> Tensor:
    """Describe windows as if their content had been mirrored or turned, without looking at pixels again.

    Args:
        cells: (…, 2, CELLS, CELLS) described windows.
        symmetry: (2, 3) a symmetry of the square, see `windows.symmetries`.

    Returns:
        (…, 2, CELLS, CELLS). Exact: the cells change places, and the directions turn with them.
    """
    (a, b, _), (c, d, _) = symmetry.tolist()
    at = (torch.arange(CELLS, device=cells.device) * 2 + 1) - CELLS
    x, y = at[None, :], at[:, None]
    columns, rows = ((v.expand(CELLS, CELLS) + CELLS) // 2 for v in (a * x + b * y, c * x + d * y))
    sign = -1 if a == 0 else 1  # a quarter turn negates both numbers of the double angle
    moved = cells[..., rows.long(), columns.long()] * sign
    return torch.stack([moved[..., 0, :, :], moved[..., 1, :, :] * (a * d - b * c)], -3)


def describe_parts(pictures: Tensor, whitening: Whitening) -> Tensor:
    """Describe the parts of protected pictures, which are compared with the windows of a picture.

    Args:
        pictures: (N, 3, H, W) in [0, 1].
        whitening: on the pictures' device.

    Returns:
        (N, parts, WIDTH) in half precision, of unit length. Parts with too few edges are zero, since they
        would match anything.
    """
    cells, clear = cells_of_parts(pictures)
    return (whitening(cells.flatten(2)) * clear[..., None]).half()


def cells_of_parts(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Describe the parts of pictures before whitening.

    Args:
        pictures: (N, 3, H, W) in [0, 1].

    Returns:
        Orientation maps (N, parts, 2, CELLS, CELLS), and whether each part has enough edges (N, parts).
    """
    boxes = parts().to(pictures)
    sides = boxes[:, 0, 0]
    whole = squared(pictures, 2 * WINDOW)
    cells = pictures.new_empty(len(pictures), len(boxes), 2, CELLS, CELLS)
    strength = pictures.new_empty(len(pictures), len(boxes))
    for side in sorted(set(sides.tolist())):
        chosen = sides == side
        cells[:, chosen], strength[:, chosen] = describe(shrunk(whole, round(WINDOW / side)), boxes[chosen])
    return cells, (strength >= FAINT_PART * strength[:, :1]) & (strength > BLANK)


def look(pictures: Tensor, whitening: Whitening, mirrors: Tensor, native: int | None = None) -> list[Looks]:
    """Describe every window of each picture.

    Args:
        pictures: (B, 3, H, W) in [0, 1], finite.
        whitening: on the pictures' device.
        mirrors: (S, 2, 3) symmetries in which protected pictures are looked for, see `windows.symmetries`.
        native: side in pixels of the smallest copy to look for in pictures that are larger; None to look only
            at the usual sizes.

    Returns:
        For each picture its windows; none for a picture without any edge.
    """
    height, width = pictures.shape[-2:]
    versions = [pictures]
    if max(height, width) > LONG * min(height, width):
        # protected pictures are compared as squares, so a long picture may show a protected picture that was
        # squeezed as it is now
        versions.append(squared(pictures, round(math.sqrt(height * width))))
    cells, strengths, maps = [], [], []
    for version in versions:
        height, width = version.shape[-2:]
        scales = native_scales(height, width, native)
        for layer, scale in zip(
            windows(height, width=width, scales=scales, turns=TURNS), scales, strict=True
        ):
            placed = layer.to(pictures)
            described, strength = describe(shrunk(version, round(WINDOW / scale)), placed)
            cells.append(described)
            strengths.append(strength)
            maps.append(placed)
    described, strength, placed = torch.cat(cells, 1), torch.cat(strengths, 1), torch.cat(maps)
    clear = (strength >= FAINT_WINDOW * strength.amax(1, keepdim=True)) & (strength > BLANK)
    return [
        _in_all(described[i, kept], maps=placed[kept], whitening=whitening, mirrors=mirrors)
        for i, kept in enumerate(clear)
    ]


def _in_all(cells: Tensor, maps: Tensor, whitening: Whitening, mirrors: Tensor) -> Looks:
    """Described windows (W, 2, CELLS, CELLS) in all symmetries."""
    vectors = [whitening(seen_through(cells, mirror).flatten(1)) for mirror in mirrors]
    placed = [compose(maps, mirror.to(maps)[None]) for mirror in mirrors]
    return Looks(torch.cat(vectors), torch.cat(placed))


def nominate(
    looks: Looks, sought: Tensor, *, items: int, each: int, keep: int, at_once: int = 1 << 11
) -> Nominees:
    """Find the protected pictures that are most similar to any window, and where each may lie.

    Args:
        looks: the windows of one picture, see `look`.
        sought: (N, parts, WIDTH) the protected pictures' parts, see `describe_parts`; on the same device.
        items: protected pictures to keep.
        each: placements to keep for each protected picture.
        keep: placements to keep in all.
        at_once: protected pictures compared in one matrix product, which bounds the memory.

    Returns:
        The nominees, the most similar first.
    """
    if not len(looks.vectors) or not len(sought):
        nothing = looks.vectors.new_empty(0)
        return Nominees(nothing.long(), nothing, nothing.reshape(0, 2, 3))
    near, at = [], []
    for first in range(0, len(sought), at_once):
        batch = sought[first : first + at_once]
        value, window = (batch.flatten(0, 1).to(looks.vectors) @ looks.vectors.T).max(1)
        near.append(value)
        at.append(window)
    count = sought.shape[1]
    nearness, window = torch.cat(near).reshape(-1, count), torch.cat(at).reshape(-1, count)
    chosen = nearness.amax(1).topk(min(items, len(sought))).indices
    best = nearness[chosen].topk(min(each, count))
    order = best.values.flatten().argsort(descending=True)[:keep]
    item, part = chosen.repeat_interleave(best.indices.shape[1])[order], best.indices.flatten()[order]
    placed = compose(looks.maps[window[item, part]], inverse(parts().to(looks.maps)[part]))
    return Nominees(item, nearness[item, part], placed)


def _rim(cells: Tensor) -> Tensor:
    """Weights that fade towards a window's border, where a neighbour's edges show."""
    at = torch.arange(CELLS, device=cells.device, dtype=cells.dtype)
    fade = ((torch.minimum(at, CELLS - 1 - at) + 0.5) / 2).clamp(max=1)
    return fade[:, None] * fade[None]
