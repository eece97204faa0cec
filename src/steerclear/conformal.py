"""Thresholds with a stated false-positive rate: split conformal prediction with a binomial confidence bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steerclear.errors import ConfigError, InputError

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Bounded:
    """A threshold and what it rests on.

    n: clean scores; exceeding: how many of them it flags; upper: the largest false-positive rate that these allow at the
    stated confidence; enough: whether that is within the rate that was asked for.
    """

    threshold: float
    n: int
    exceeding: int
    upper: float
    fpr: float
    confidence: float

    @property
    def enough(self) -> bool:
        return self.upper <= self.fpr


def bounded_threshold(clean: Sequence[float], fpr: float, confidence: float = CONFIDENCE) -> Bounded:
    """The lowest threshold whose false-positive rate is at most `fpr` with the stated confidence.

    clean: a filter's scores on clean images, drawn as those that it will see. Flagged means score ≥ threshold; the k
    highest scores may be flagged where the Clopper–Pearson bound for k of n is within fpr (the tolerance limit of Wilks
    1941, which split conformal prediction with a guarantee per calibration set comes down to). Where n is too small for
    even k = 0, no clean score is flagged, and `enough` is False: see `needed`.
    Raises InputError for no scores or one that is not finite, ConfigError for a rate or confidence outside (0, 1).
    """
    _check(fpr, confidence)
    scores = sorted((float(s) for s in clean), reverse=True)
    if not scores:
        raise InputError("there are no clean scores to calibrate on; give clean images or prompts")
    if not all(math.isfinite(s) for s in scores):
        raise InputError("a filter gave clean scores that are not finite; it cannot be calibrated")
    n, k = len(scores), 0
    while k + 1 < n and upper_rate(k + 1, n, confidence) <= fpr:
        k += 1
    # flagged is ≥, so the first score that must stay clear lies just below the threshold
    threshold = math.nextafter(scores[k], math.inf)
    exceeding = sum(s >= threshold for s in scores)
    return Bounded(threshold, n, exceeding, upper_rate(k, n, confidence), fpr, confidence)


def upper_rate(k: int, n: int, confidence: float = CONFIDENCE) -> float:
    """One-sided Clopper–Pearson bound: the largest rate at which k or fewer of n are not yet too few to believe."""
    from scipy.stats import beta

    return 1.0 if k >= n else float(beta.ppf(confidence, k + 1, n - k))


def needed(fpr: float, confidence: float = CONFIDENCE) -> int:
    """How many clean scores it takes until a rate of `fpr` can be stated: (1 − fpr)ⁿ ≤ 1 − confidence."""
    _check(fpr, confidence)
    return math.ceil(math.log(1 - confidence) / math.log1p(-fpr))


def auc(copies: Sequence[float], clean: Sequence[float]) -> float:
    """Probability, in [0, 1], that a copy scores higher than a clean image, ties half (Mann–Whitney)."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(copies, clean).statistic) / (len(copies) * len(clean))


def _check(fpr: float, confidence: float) -> None:
    for name, value in (("false-positive rate", fpr), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigError(f"the {name} is {value}; it must lie between 0 and 1")
