"""Third step of the copy detector: how well an aligned picture agrees with a protected one, and what is a
copy.

Two measures at the placement that `align` found. `orientation` compares directions of edges alone, so that
recolouring hides no copy. `soft` also compares brightness and colours, for blurred or grainy copies whose
edges have suffered.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.copy_detection.features import cell_means, orientation_maps, smoothed
from steerclear.copy_detection.place import Evidence

GRID = 8  # cells along a side
SEEN = 0.25  # least share of a cell that must lie inside the picture
TEXTURED = 0.05  # mean squared clearness from which a cell counts as textured
RIM = 3 / 64  # border that is ignored, as a share of the side: the edge of a frame shows there
ENOUGH = 24  # textured cells from which a match is fully trusted; fewer match by chance
DOUBT = 0.12  # with fewer, trust is (their number / ENOUGH) to this power
UNCOVERED = 0.8  # share of a copy's cells that count, the best ones: the rest may lie under text
REVERSED = 0.9  # factor on the agreement of a match whose brightness does not agree at all


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which value on each measure calls a picture a copy; see `Evidence`."""

    orientation: float = 0.85
    soft: float = 0.82
    inliers: int = 6
    sameness: float = 0.75

    def score(self, evidence: Evidence) -> float:
        """The largest of the measures over its threshold: 1 or more is a copy."""
        share = (evidence.inliers or 0) / self.inliers
        return max(
            evidence.orientation / self.orientation,
            evidence.soft / self.soft,
            share,
            evidence.sameness / self.sameness,
        )


def agreement(seen: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How well patches agree with the protected pictures that they are laid over.

    Args:
        seen: (n, 4, S, S) colours and mask of the picture at each placement, see `align.cut_patches`.
        targets: (n, 3, S, S) protected pictures; S a multiple of GRID.

    Returns:
        orientation (n,) and soft (n,), both in [0, 1].
    """
    mask = without_rim(seen[:, 3:])
    maps, strength = orientation_maps(seen[:, :3])
    goal, goal_strength = orientation_maps(targets)
    cells, clearest, enough = cell_agreement(maps, goal, mask)
    blur = max(1, seen.shape[-1] // 32)
    grey, goal_grey = seen[:, :3].mean(1, keepdim=True), targets.mean(1, keepdim=True)
    brightness = correlation(smoothed(grey, blur), smoothed(goal_grey, blur), mask)
    colour = correlation(seen[:, :3], targets, mask)
    edges = correlation(smoothed(strength), smoothed(goal_strength), mask)
    soft = (cells * brightness * colour * edges) ** 0.25 * enough
    # a part whose brightness is reversed is more often some other round thing than a copy
    return clearest * enough * (REVERSED + (1 - REVERSED) * brightness), soft


def cell_agreement(maps: Tensor, goal: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Correlate orientation maps in each cell, and average over the cells by how much each shows.

    Args:
        maps: (n, 2, S, S) of the picture.
        goal: (n, 2, S, S) of the protected picture.
        mask: (n, 1, S, S), 1 where a pixel counts.

    Returns:
        Three tensors (n,), all in [0, 1]: the mean over all cells; the mean over the best cells that together
        make up the share UNCOVERED; and how far the number of textured cells can be trusted (edges that all
        run one way count little).
    """
    cell = maps.shape[-1] // GRID
    maps, goal = smoothed(maps), smoothed(goal)
    inside = cell_means(mask, cell)
    together = cell_means((maps * goal).sum(1, keepdim=True) * mask, cell)
    energy = cell_means(maps.square().sum(1, keepdim=True) * mask, cell)
    wanted = cell_means(goal.square().sum(1, keepdim=True) * mask, cell)
    alike = (together / (energy * wanted + 1e-6).sqrt()).flatten(1)
    # a cell counts by what either side shows there, as far as it lies inside the picture
    weight = ((energy + wanted).sqrt() * (inside > SEEN)).flatten(1)
    textured = ((wanted / inside.clamp(min=1e-3) > TEXTURED) & (inside > SEEN)).sum(dim=(1, 2, 3))
    order = alike.argsort(dim=1, descending=True)
    alike, weight = alike.gather(1, order), weight.gather(1, order)
    before = weight.cumsum(1) - weight
    best = weight * (before < UNCOVERED * weight.sum(1, keepdim=True))
    return _mean(alike, weight), _mean(alike, best), _trust(textured, goal * mask)


def trust(pictures: Tensor) -> Tensor:
    """How far a perfect match of pictures (n, 3, S, S) by their edges can be trusted, in [0, 1]: (n,)."""
    mask = without_rim(torch.ones_like(pictures[:, :1]))
    maps = smoothed(orientation_maps(pictures)[0])
    energy = cell_means(maps.square().sum(1, keepdim=True) * mask, pictures.shape[-1] // GRID)
    inside = cell_means(mask, pictures.shape[-1] // GRID)
    textured = ((energy / inside.clamp(min=1e-3) > TEXTURED) & (inside > SEEN)).sum(dim=(1, 2, 3))
    return _trust(textured, maps * mask)


def _trust(textured: Tensor, goal: Tensor) -> Tensor:
    """textured: cells (n,) that say anything; goal: (n, 2, S, S) maps where they count."""
    trusted: Tensor = (textured * (1 - straightness(goal) ** 2) / ENOUGH).clamp(max=1) ** DOUBT
    return trusted


def straightness(maps: Tensor) -> Tensor:
    """How far the edges of orientation maps (n, 2, S, S) run one way, in [0, 1]: (n,). Any bar lies well on
    any other.
    """
    total = maps.norm(dim=1).sum(dim=(1, 2)).clamp(min=1e-6)
    share: Tensor = maps.sum(dim=(2, 3)).norm(dim=1) / total
    return share


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return ((values * weights).sum(1) / weights.sum(1).clamp(min=1e-6)).clamp(min=0)


def without_rim(mask: Tensor) -> Tensor:
    """The mask (n, 1, S, S) with nothing along the protected picture's own border, where a frame's edge
    shows.
    """
    rim = max(1, round(RIM * mask.shape[-1]))
    inner = torch.zeros_like(mask)
    inner[..., rim:-rim, rim:-rim] = mask[..., rim:-rim, rim:-rim]
    return inner


def textured_cells(pictures: Tensor) -> Tensor:
    """How many cells of pictures (n, 3, S, S) say anything: (n,)."""
    maps = smoothed(orientation_maps(pictures)[0])
    energy = cell_means(maps.square().sum(1, keepdim=True), pictures.shape[-1] // GRID)
    return (energy > TEXTURED).sum(dim=(1, 2, 3))


def correlation(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Pearson's correlation over the masked pixels of all channels, negative ones as 0.

    Args:
        x: (n, C, S, S).
        y: (n, C, S, S).
        mask: (n, 1, S, S), 1 where a pixel counts.

    Returns:
        (n,) in [0, 1]; 0 where either side is plain.
    """
    share = mask / mask.sum(dim=(2, 3), keepdim=True).clamp(min=1) / x.shape[1]

    def centred(z: Tensor) -> Tensor:
        return z - (z * share).sum(dim=(1, 2, 3), keepdim=True)

    x, y = centred(x), centred(y)
    over = (x * y * share).sum(dim=(1, 2, 3))
    spread = (x.square() * share).sum(dim=(1, 2, 3)) * (y.square() * share).sum(dim=(1, 2, 3))
    return (over / (spread + 1e-10).sqrt()).clamp(min=0)
