"""A budget for each image of a call: who no longer waits costs the others nothing."""

from __future__ import annotations

import pytest

from guard_doubles import FAST, SHORT, plain
from steerclear import Budget, Guard
from steerclear.errors import ConfigError
from steerclear.steering import generators
from steerclear.testing import MockFilter, tiny_pipeline

PROMPTS = ["a fox", "a fox"]


@pytest.fixture
def pipe():
    return tiny_pipeline("sd1")


def test_an_image_that_is_cancelled_is_not_steered_and_the_others_are(pipe):
    # both first pictures are flagged, and no later one
    guard = Guard(pipe, [MockFilter([True, True, False])], ladder=SHORT)
    budgets = [Budget(cancelled=lambda: True), Budget()]
    output = guard(PROMPTS, generator=generators([0, 1]), budget=budgets, **FAST)
    assert [report.outcome for report in output.reports] == ["withheld", "steered"]
    assert output.reports[0].reason == "cancelled"
    assert output.reports[0].attempts == ()


def test_the_first_run_goes_on_until_all_are_cancelled(pipe):
    guard = Guard(pipe, [MockFilter([False])], ladder=SHORT)
    budgets = [Budget(cancelled=lambda: True), Budget(cancelled=lambda: False)]
    output = guard(PROMPTS, generator=generators([0, 1]), budget=budgets, **FAST)
    expected = plain(pipe, "a fox", [0, 1])
    assert [image.tobytes() for image in output.images] == [image.tobytes() for image in expected]

    gone = [Budget(cancelled=lambda: True)] * 2
    output = guard(PROMPTS, generator=generators([0, 1]), budget=gone, **FAST)
    assert output.images == [None, None]
    assert {report.reason for report in output.reports} == {"cancelled"}


@pytest.mark.parametrize("budget", [[Budget()], [Budget(), 8], "all", 8.0])
def test_budgets_that_do_not_fit_the_images_are_refused(pipe, budget):
    guard = Guard(pipe, [MockFilter([False])], ladder=SHORT)
    with pytest.raises(ConfigError, match="budget"):
        guard(PROMPTS, generator=generators([0, 1]), budget=budget, **FAST)
