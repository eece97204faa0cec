"""A stated false-positive rate holds as often as it says, on scores that nobody has seen."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from steerclear.conformal import auc, bounded_threshold, needed, upper_rate
from steerclear.errors import ConfigError, InputError

SCORES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=400)


@given(SCORES, st.sampled_from([0.005, 0.01, 0.05, 0.2]))
def test_a_threshold_flags_no_more_of_its_own_scores_than_the_bound_allows(scores, fpr):
    bound = bounded_threshold(scores, fpr)
    flagged = sum(s >= bound.threshold for s in scores)
    assert flagged == bound.exceeding
    assert bound.enough == (upper_rate(0, len(scores)) <= fpr)
    if bound.enough:
        assert upper_rate(flagged, len(scores)) <= fpr
    else:
        assert flagged == 0


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([0.02, 0.05, 0.1]), st.integers(150, 600))
def test_the_rate_holds_in_at_least_the_stated_share_of_calibrations(fpr, n):
    draw = torch.Generator().manual_seed(n)
    # of uniform scores, the true false-positive rate of a threshold t is 1 − t
    rates = [1 - bounded_threshold(row, fpr).threshold for row in torch.rand(300, n, generator=draw).tolist()]
    broken = sum(rate > fpr for rate in rates)
    assert broken <= binom.ppf(0.9999, 300, 0.05)


def test_the_number_of_pictures_that_a_rate_needs_is_the_first_that_is_enough():
    n = needed(0.01)
    assert n == 299
    assert bounded_threshold(range(n), 0.01).enough
    assert not bounded_threshold(range(n - 1), 0.01).enough


@given(st.integers(0, 30), st.integers(31, 300))
def test_the_bound_is_the_rate_at_which_so_few_become_unlikely(k, n):
    assert binom.cdf(k, n, upper_rate(k, n)) == pytest.approx(0.05, abs=1e-6)


def test_auc_is_one_for_separate_scores_and_half_for_the_same():
    assert auc([2.0, 3.0], [0.0, 1.0]) == 1.0
    assert auc([1.0, 1.0], [1.0, 1.0]) == 0.5


@pytest.mark.parametrize("scores", [[], [0.1, math.nan], [math.inf]])
def test_scores_that_say_nothing_are_refused(scores):
    with pytest.raises(InputError):
        bounded_threshold(scores, 0.01)


@pytest.mark.parametrize("fpr", [0, 1, -0.1, math.nan])
def test_a_rate_that_is_none_is_refused(fpr):
    with pytest.raises(ConfigError, match="false-positive rate"):
        bounded_threshold([0.1], fpr)
