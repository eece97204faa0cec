"""Statistics whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steerclear_lab.bench.diversity import kid, mean_distance, vendi
from steerclear_lab.bench.intervals import exact_interval, interval, quantile
from steerclear_lab.bench.pareto import fronts


def test_the_interval_of_a_known_mean_is_the_normal_one() -> None:
    draw = np.random.default_rng(0)
    values = {str(i): [float(v)] for i, v in enumerate(draw.normal(5, 2, 400))}
    bounds = interval(values)
    mean = np.mean([v[0] for v in values.values()])
    half = 1.96 * np.std([v[0] for v in values.values()]) / 20
    assert bounds == pytest.approx((mean - half, mean + half), abs=0.03)
    assert bounds == interval(values)  # the same draw every time


def test_prompts_are_drawn_and_not_pictures() -> None:
    # 4 prompts of 100 equal pictures each: 400 pictures tell no more than 4
    few = interval({str(i): [float(i % 2)] * 100 for i in range(4)})
    assert few is not None
    assert few[1] - few[0] >= 0.5


def test_where_all_agree_the_interval_of_a_share_is_exact() -> None:
    assert interval({str(i): [0.0] for i in range(20)}, share=True) == pytest.approx(
        (0, 1 - 0.025 ** (1 / 20))
    )
    assert interval({str(i): [1.0] for i in range(20)}, share=True) == pytest.approx((0.025 ** (1 / 20), 1))
    assert interval({"a": [0.0], "b": [0.0]}) == (0.0, 0.0)
    assert interval({}) is None


def test_the_exact_interval_is_clopper_and_pearsons() -> None:
    assert exact_interval(0, 24) == pytest.approx((0, 1 - 0.025 ** (1 / 24)))
    low, high = exact_interval(23, 24)
    assert (round(low, 3), round(high, 3)) == (0.789, 0.999)


def test_the_interval_of_another_statistic_holds_it() -> None:
    values = {str(i): [float(i)] for i in range(101)}
    low, high = interval(values, statistic=np.median) or (0.0, 0.0)
    assert 30 < low < 50 < high < 70


def test_quantiles_are_values_that_were_seen() -> None:
    assert quantile([1, 2, 3, 4], 0.95) == 4
    assert quantile(list(range(1, 101)), 0.95) == 95


def test_fronts_are_taken_away_one_by_one() -> None:
    ranks = fronts({"cheap": (1, 0), "safe": (0, 1), "worse": (1, 1), "worst": (2, 2), "equal": (0, 1)})
    assert ranks == {"cheap": 1, "safe": 1, "equal": 1, "worse": 2, "worst": 3}


def test_diversity_of_equal_and_of_orthogonal_pictures() -> None:
    same, apart = torch.eye(4)[:1].repeat(3, 1), torch.eye(4)[:3]
    assert mean_distance(same) == pytest.approx(0)
    assert mean_distance(apart) == pytest.approx(1)
    assert mean_distance(same[:1]) is None
    assert vendi(same) == pytest.approx(1)
    assert vendi(apart) == pytest.approx(3)


def test_kid_of_one_distribution_is_nothing_and_of_two_is_large() -> None:
    draw = torch.Generator().manual_seed(0)
    some, more, other = (
        torch.nn.functional.normalize(torch.randn(n, 16, generator=draw) + shift, dim=1)
        for n, shift in ((120, 0), (200, 0), (90, 1))
    )
    assert abs(kid(some, more) or 1) < 0.02
    assert (kid(some, other) or 0) > 0.5
    assert kid(some[:1], more) is None
