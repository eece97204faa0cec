"""Means, shares and quantiles over requests, with 95 % intervals over prompts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


def mean(values: Iterable[float]) -> float | None:
    """The mean, to four places; None of nothing."""
    numbers = list(values)
    return round(statistics.fmean(numbers), 4) if numbers else None


def share(outcomes: Iterable[Any]) -> float:
    """The share of what is true, to four places; 0 of nothing."""
    truths = [bool(outcome) for outcome in outcomes]
    return round(sum(truths) / len(truths), 4) if truths else 0.0


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def interval(
    values: Mapping[str, Sequence[float]],
    seed: int = 0,
    share: bool = False,
    statistic: Callable[..., Any] = np.mean,
) -> tuple[float, float] | None:
    """The 95 % interval of the mean over prompts, or of another statistic.

    It is a percentile bootstrap (scipy's) that draws prompts, not pictures, since the seeds of one prompt go
    together. Where all outcomes of a share agree, a bootstrap knows no spread, and the interval is the exact
    binomial one over prompts.

    Args:
        values: by prompt, one value per seed.
        seed: of the bootstrap's draws.
        share: whether the values are 0 or 1.
        statistic: of the prompts' means, such as `numpy.median`.

    Returns:
        (low, high); None where there are no values.
    """
    from scipy.stats import bootstrap

    means = np.array([np.mean(v) for v in values.values() if len(v)], dtype=float)
    if not len(means):
        return None
    if np.ptp(means) == 0:
        if share and means[0] in (0.0, 1.0):
            return exact_interval(int(means[0]) * len(means), len(means))
        return float(means[0]), float(means[0])
    bounds = bootstrap(
        (means,),
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def exact_interval(hits: int, count: int) -> tuple[float, float]:
    """The exact 95 % interval of a share (Clopper & Pearson 1934).

    Args:
        hits: of how many it is true.
        count: of how many it was asked, 1 or more.
    """
    from scipy.stats import binomtest

    bounds = binomtest(hits, count).proportion_ci(CONFIDENCE)
    return float(bounds.low), float(bounds.high)
