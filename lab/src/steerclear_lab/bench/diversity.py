"""How much pictures differ from one another and from ordinary ones, by their embeddings."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_distance(embeddings: Tensor) -> float | None:
    """The mean pairwise cosine distance.

    Args:
        embeddings: (n, D), unit vectors.

    Returns:
        In [0, 2]; None below two vectors.
    """
    if len(embeddings) < 2:
        return None
    cosines = embeddings @ embeddings.T
    n = len(embeddings)
    return float(1 - (cosines.sum() - cosines.diagonal().sum()) / (n * (n - 1)))


def vendi(embeddings: Tensor) -> float | None:
    """The Vendi score: the effective number of different pictures (Friedman & Dieng 2023).

    It is exp of the entropy of the eigenvalues of the cosine matrix over n.

    Args:
        embeddings: (n, D), unit vectors.

    Returns:
        In [1, n]; None for no vectors.
    """
    if not len(embeddings):
        return None
    n = len(embeddings)
    values = torch.linalg.eigvalsh((embeddings @ embeddings.T).double() / n).clamp(min=0)
    values = values[values > 1e-12]
    return float(torch.exp(-(values * values.log()).sum()))


def kid(features: Tensor, reference: Tensor, subsets: int = 50, size: int = 100) -> float | None:
    """The kernel inception distance: unbiased squared MMD with the cubic kernel (Bińkowski et al. 2018;
    torchmetrics').

    It is the mean over random subsets of equal size, which torchmetrics' estimator asks for. Features are
    scaled by √D, so that their components are of order 1.

    Args:
        features: (n, D), unit vectors of what was generated.
        reference: (m, D), unit vectors of what it is compared with.
        subsets: how many subsets are drawn.
        size: vectors in each; fewer where there are fewer.

    Returns:
        About 0 for the same distribution; None below two vectors on either side.
    """
    from torchmetrics.image.kid import poly_mmd

    size = min(size, len(features), len(reference))
    if size < 2:
        return None
    scale, draw = features.shape[1] ** 0.5, torch.Generator().manual_seed(0)
    distances = []
    for _ in range(subsets):
        drawn, compared = (
            x[torch.randperm(len(x), generator=draw)[:size]].double() for x in (features, reference)
        )
        distances.append(float(poly_mmd(scale * drawn, scale * compared)))
    return sum(distances) / subsets
