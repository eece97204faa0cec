"""The seconds, the budget and the ladder of a call."""

from __future__ import annotations

import time

import pytest

from guard_doubles import (
    FAST,
    Watching,
    colour,
    only,
)
from steerclear.errors import ConfigError
from steerclear.filters import MemorizationFilter
from steerclear.guard import WORDLESS_LADDER, Guard
from steerclear.nudge import Budget, Ladder
from steerclear.nudge.ladder import strategies
from steerclear.steering import generators
from steerclear.testing import FakeEncoder, MockFilter, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


def test_the_seconds_of_a_call_are_shared_among_its_images(pipe):
    began = time.monotonic()
    reports = Guard(pipe, [only(1, 2)], ladder=Ladder((Watching(),)))(
        ["a fox"] * 2, generator=generators([1, 2]), **FAST
    ).reports
    elapsed = time.monotonic() - began
    clear, steered = reports
    assert 0 < clear.seconds < steered.seconds
    assert steered.seconds - clear.seconds >= steered.attempts[0].seconds
    assert 0.5 * elapsed < clear.seconds + steered.seconds <= elapsed


def test_a_budget_of_the_call_takes_the_place_of_the_ladders_for_that_call(pipe):
    guard = Guard(pipe, [MockFilter(True)], ladder=Ladder((Watching(),) * 2, Budget(overhead=1.0)))
    attempts = [
        len(guard("a fox", generator=generators([1]), **more, **FAST).reports[0].attempts)
        for more in ({}, {"budget": Budget(overhead=2.0)}, {"budget": None})
    ]
    assert attempts == [1, 2, 1]


def test_without_a_ladder_a_guard_takes_the_one_that_its_pipeline_can_follow(pipe):
    assert Guard(pipe, [MockFilter(False)]).ladder == Ladder()
    wordless = Guard(tiny_pipeline("dit"), [MockFilter(False)])
    assert wordless.ladder == Ladder(strategies(WORDLESS_LADDER))
    assert (
        *("rewrite",) * 3,
        "trajectory",
        "shield",
        "final-latent",
        *("resample",) * 2,
    ) == WORDLESS_LADDER
    given = Ladder(())
    assert Guard(pipe, [MockFilter(False)], ladder=given).ladder is given


def test_what_a_guard_cannot_work_with_is_named_when_it_is_made(pipe):
    with pytest.raises(ConfigError, match=r"filters holds the name 'nearest'; names go to Guard\.wrap"):
        Guard(pipe, [MockFilter(False), "nearest", 3])
    with pytest.raises(ConfigError, match="3 is no filter: it needs a name, a threshold"):
        Guard(pipe, [MockFilter(False), 3])
    with pytest.raises(ConfigError, match=r"MemorizationFilter\(.*\) does not see pictures; strict takes"):
        Guard(pipe, [MockFilter(False)], strict=[MockFilter(False), MemorizationFilter(1.0)])
    with pytest.raises(ConfigError, match="preferred pictures are encoded as the protected ones are"):
        Guard(pipe, [MockFilter(False)], preferred=["a boat", colour("red")])
    with pytest.raises(ConfigError, match="prefer is 'magic'; there are text, despecified"):
        Guard(pipe, [MockFilter(False)], prefer="magic")
    assert Guard(pipe, [MockFilter(False)], preferred=["a boat"]).preferred == ("a boat",)
    assert Guard(pipe, [MemorizationFilter(1.0)]).filters == ()
    mixed, seeing = Ladder(strategies(("condition", "final-latent-encoder"))), MockFilter(False)
    seeing.encoder = FakeEncoder()
    with pytest.raises(ConfigError, match="every filter sees by 'fake'"):
        Guard(pipe, [seeing], encoder=FakeEncoder(), ladder=mixed)
