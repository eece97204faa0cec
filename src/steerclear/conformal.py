"""Thresholds with a stated false-positive rate: split conformal prediction with a binomial bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steerclear.errors import ConfigError, InputError

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A threshold, and the evidence for its false-positive rate.

    Attributes:
        threshold: scores from here on are flagged.
        n: how many clean scores it rests on.
        exceeding: how many of them it flags.
        upper: the largest false-positive rate, in [0, 1], that agrees with these scores at the confidence.
        fpr: the rate that was asked for, in (0, 1).
        confidence: CONFIDENCE, as evidence has it.
    """

    threshold: float
    n: int
    exceeding: int
    upper: float
    fpr: float
    confidence: float

    @property
    def enough(self) -> bool:
        """Whether the scores suffice for the rate that was asked for."""
        return self.upper <= self.fpr


def bounded_threshold(clean: Sequence[float], fpr: float) -> Bounded:
    """Finds the lowest threshold whose false-positive rate is at most `fpr`, with a confidence of 95 %.

    Flagged means score ≥ threshold. The k highest scores may be flagged if the Clopper–Pearson bound for k of
    n is within `fpr`: the tolerance limit of Wilks (1941), to which split conformal prediction with a
    guarantee per calibration set reduces. Where n is too small even for k = 0, no clean score is flagged and
    `enough` is False; see `needed`.

    Args:
        clean: a filter's scores on clean images, drawn like those that it will see.
        fpr: the false-positive rate, in (0, 1).

    Returns:
        The threshold with its evidence.

    Raises:
        InputError: if there are no scores, or one is not finite.
        ConfigError: for a rate outside (0, 1).
    """
    _check(fpr)
    scores = sorted((float(score) for score in clean), reverse=True)
    if not scores:
        raise InputError("there are no clean scores to calibrate on; give clean images or prompts")
    if not all(math.isfinite(score) for score in scores):
        raise InputError("a filter gave clean scores that are not finite; it cannot be calibrated")
    n, k = len(scores), 0
    while k + 1 < n and upper_rate(k + 1, n) <= fpr:
        k += 1
    # flagged means ≥, so the threshold lies just above the first score that must stay clear
    threshold = math.nextafter(scores[k], math.inf)
    return Bounded(
        threshold=threshold,
        n=n,
        exceeding=sum(score >= threshold for score in scores),
        upper=upper_rate(k, n),
        fpr=fpr,
        confidence=CONFIDENCE,
    )


def upper_rate(k: int, n: int) -> float:
    """Returns the one-sided Clopper–Pearson bound of a rate.

    Args:
        k: how many of the trials were hits.
        n: the number of trials.

    Returns:
        The largest rate at which k or fewer hits still have a probability of 1 − CONFIDENCE.
    """
    from scipy.stats import beta

    return 1.0 if k >= n else float(beta.ppf(CONFIDENCE, k + 1, n - k))


def needed(fpr: float) -> int:
    """Returns how many clean scores it takes to state a false-positive rate: (1 − fpr)ⁿ ≤ 1 − CONFIDENCE.

    Raises:
        ConfigError: for a rate outside (0, 1).
    """
    _check(fpr)
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-fpr))


def auc(copies: Sequence[float], clean: Sequence[float]) -> float:
    """The area under the ROC curve: how often a copy scores higher than a clean image (Mann–Whitney).

    Args:
        copies: scores of copies.
        clean: scores of clean images.

    Returns:
        A probability in [0, 1]; ties count half.
    """
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(copies, clean).statistic) / (len(copies) * len(clean))


def _check(fpr: float) -> None:
    if not 0 < fpr < 1:
        raise ConfigError(f"the false-positive rate is {fpr}; it must lie between 0 and 1")
