"""A page says so where its figures were made on other weights than the ones that ship."""

from __future__ import annotations

import pytest

from steerclear_lab.bench.environment import OTHER_WEIGHTS, environment, remark


def test_figures_of_the_shipped_weights_need_no_remark():
    assert remark(environment()) == []


@pytest.mark.parametrize("made", [{}, {"weights": "0123456789abcdef"}])
def test_figures_of_other_weights_or_of_weights_nobody_noted_are_remarked_on(made):
    assert OTHER_WEIGHTS in remark(made)
