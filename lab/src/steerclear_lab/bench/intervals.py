"""Statistics of the comparison: intervals over prompts, Pareto order, diversity and KID."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

RESAMPLES = 2000
CONFIDENCE = 0.95


def interval(
    values: Mapping[str, Sequence[float]], seed: int = 0, share: bool = False
) -> tuple[float, float] | None:
    """The 95 % bootstrap interval (percentile, scipy's) of the mean over prompts; None where there is nothing.

    values: by prompt, one value a seed. Prompts are drawn, not pictures, since the seeds of one prompt go together. share:
    whether the values are yes or no; where all of these agree a bootstrap knows no spread, and the interval is the exact
    binomial one (Clopper–Pearson) over prompts.
    """
    from scipy.stats import binomtest, bootstrap

    means = np.array([np.mean(v) for v in values.values() if len(v)], dtype=float)
    if not len(means):
        return None
    if np.ptp(means) == 0:
        if share and means[0] in (0.0, 1.0):
            exact = binomtest(int(means[0]) * len(means), len(means)).proportion_ci(CONFIDENCE)
            return float(exact.low), float(exact.high)
        return float(means[0]), float(means[0])
    found = bootstrap(
        (means,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def fronts(points: Mapping[str, Sequence[float]]) -> dict[str, int]:
    """Pareto fronts of points to be minimised in every coordinate: 1 for those that nothing dominates, 2 for those that
    nothing else dominates once front 1 is taken away, and so on."""
    left, front, found = dict(points), 0, dict[str, int]()
    while left:
        front += 1
        best = [name for name, point in left.items() if not any(dominates(o, point) for o in left.values())]
        for name in best:
            found[name] = front
            del left[name]
    return found


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one is nowhere worse, and somewhere better."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def spread(embeddings: Tensor) -> float | None:
    """Mean pairwise cosine distance of unit vectors (n, D); None below two."""
    if len(embeddings) < 2:
        return None
    likeness = embeddings @ embeddings.T
    n = len(embeddings)
    return float(1 - (likeness.sum() - likeness.diagonal().sum()) / (n * (n - 1)))


def vendi(embeddings: Tensor) -> float | None:
    """Friedman & Dieng 2023: the effective number of different ones among unit vectors (n, D), exp of the entropy of the
    eigenvalues of their cosines over n; 1 … n. None for none."""
    if not len(embeddings):
        return None
    n = len(embeddings)
    values = torch.linalg.eigvalsh((embeddings @ embeddings.T).double() / n).clamp(min=0)
    values = values[values > 1e-12]
    return float(torch.exp(-(values * values.log()).sum()))


def kid(some: Tensor, others: Tensor, subsets: int = 50, size: int = 100) -> float | None:
    """Unbiased squared MMD with the cubic kernel (Bińkowski et al. 2018; torchmetrics') of features (n, D) and (m, D), the mean
    over random subsets of equal size, which torchmetrics' estimator asks for. Features are unit vectors here, scaled by √D so
    that their components are of order 1. None below two of either."""
    from torchmetrics.image.kid import poly_mmd

    size = min(size, len(some), len(others))
    if size < 2:
        return None
    scale, draw = some.shape[1] ** 0.5, torch.Generator().manual_seed(0)
    found = []
    for _ in range(subsets):
        one, other = (x[torch.randperm(len(x), generator=draw)[:size]].double() for x in (some, others))
        found.append(float(poly_mmd(scale * one, scale * other)))
    return sum(found) / subsets
