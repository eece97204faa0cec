"""The ladder climbs rung by rung, hands out only what passed, keeps to its budget, and tells what it did."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from PIL import Image

from steerclear import plugins
from steerclear.errors import ConfigError
from steerclear.generators.passes import Pass
from steerclear.nudge import Budget, Ladder
from steerclear.nudge.base import Candidate
from steerclear.nudge.ladder import DEFAULT_LADDER, strategies
from steerclear.steering import derive
from steerclear.types import Detection

COPY = Detection("nearest", flagged=True, score=0.9, threshold=0.5, matched="item-a")
OTHER_COPY = Detection("nearest", flagged=True, score=0.8, threshold=0.5, matched="item-b")
CLEAR = Detection("nearest", flagged=False, score=0.1, threshold=0.5)
PLAIN = 10.0  # evaluations of a plain generation


@dataclass
class Task:
    seed: int = 7
    attempt: int = -1
    nfe: float = 0.0


@dataclass
class Rung:
    """Makes a picture of its own shade at a cost, or breaks, and notes what it was given."""

    shade: int
    cost: float = PLAIN
    name: str = "rung"
    error: Exception | None = None
    calls: list[tuple[int, int]] = field(default_factory=list)

    def apply(self, task, seed):
        self.calls.append((task.attempt, seed))
        task.nfe += self.cost
        if self.error is not None:
            raise self.error
        return Candidate(Pass(images=[Image.new("L", (2, 2), self.shade)]), f"shade {self.shade}")


def climb(rungs, verdicts, budget=None, learn=lambda detections: None, task=None):
    """What a ladder of these rungs comes to; verdicts: the filters' findings on each candidate's shade."""
    ladder = Ladder(tuple(rungs), budget or Budget())
    return ladder.climb(
        task or Task(),
        plain_nfe=PLAIN,
        before=(COPY,),
        verify=lambda candidate, image: verdicts[image.getpixel((0, 0))[0]],
        learn=learn,
    )


def test_the_first_picture_that_passes_is_handed_out_and_no_further_rung_begins():
    rungs = [Rung(1), Rung(2), Rung(3)]
    image, attempts, reason = climb(rungs, {1: (COPY,), 2: (CLEAR,), 3: (CLEAR,)})
    assert image.getpixel((0, 0)) == (2, 2, 2)
    assert [attempt.passed for attempt in attempts] == [False, True]
    assert rungs[2].calls == []
    assert reason is None


@pytest.mark.parametrize("verdict", [(COPY,), (CLEAR, COPY), (COPY, CLEAR), ()])
def test_a_picture_that_one_filter_flags_or_none_has_seen_is_not_handed_out(verdict):
    image, attempts, reason = climb([Rung(1), Rung(2)], {1: verdict, 2: verdict})
    assert image is None
    assert not any(attempt.passed for attempt in attempts)
    assert reason == "none of 2 strategies gave a picture that passes"


def test_a_picture_is_not_handed_out_where_the_filters_break():
    image, (attempt,), _ = climb([Rung(1)], {})
    assert image is None
    assert attempt.after == ()
    assert attempt.stopped.startswith("KeyError")


class Fickle(Candidate):
    """Gives another picture each time that it is asked."""

    @property
    def image(self):
        return self.run.images.pop(0)


def test_a_candidate_is_asked_for_its_picture_once_and_the_filters_see_what_is_handed_out():
    class Trick:
        name = "trick"

        def apply(self, task, seed):
            return Fickle(Pass(images=[Image.new("RGB", (2, 2), (shade,) * 3) for shade in (2, 1)]), "")

    for verdicts, handed_out in (({2: (CLEAR,), 1: (COPY,)}, b"\2"), ({2: (COPY,), 1: (CLEAR,)}, None)):
        image, (attempt,), _ = climb([Trick()], verdicts)
        assert attempt.after == verdicts[2]
        assert (image and image.tobytes()[:1]) == handed_out


@pytest.mark.parametrize("when", ["while it is checked", "afterwards"])
def test_a_strategy_cannot_paint_over_a_picture_once_it_is_checked(when):
    held = Image.new("RGB", (2, 2), (2, 2, 2))

    def paint(*_):
        held.putpixel((0, 0), (1, 1, 1))

    class Keeping:
        name = "keeping"

        def apply(self, task, seed):
            return Candidate(Pass(images=[held]), "")

    def verify(candidate, image):
        if when == "while it is checked":
            paint()
        return (CLEAR,) if image.getpixel((0, 0)) == (2, 2, 2) else (COPY,)

    image, _, _ = Ladder((Keeping(),)).climb(
        Task(), plain_nfe=PLAIN, before=(COPY,), verify=verify, learn=paint
    )
    paint()
    assert image.getpixel((0, 0)) == (2, 2, 2)


def test_nothing_hides_in_what_the_filters_do_not_see():
    """Transparent colours and metadata: what is handed out is what was checked, and no more."""
    hidden = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    hidden.info["comment"] = "the protected picture"

    class Hiding(Rung):
        def apply(self, task, seed):
            return Candidate(Pass(images=[hidden]), "")

    image, _, _ = climb([Hiding(1)], {9: (CLEAR,)})
    assert (image.mode, image.getpixel((0, 0)), image.info) == ("RGB", (9, 9, 9), {})


@pytest.mark.parametrize(
    "picture", [None, "a path", Image.new("F", (2, 2), float("nan")), Image.new("I", (2, 2))]
)
def test_what_is_no_picture_of_a_known_range_is_not_handed_out(picture):
    class Odd(Rung):
        def apply(self, task, seed):
            return Candidate(Pass(images=[picture]), "")

    image, (attempt,), _ = climb([Odd(1)], {0: (CLEAR,)})
    assert image is None
    assert attempt.stopped.startswith("UnsupportedError")


def test_no_rung_flees_from_one_protected_picture_into_another():
    """Each failure is told before the next rung begins, so that this one is pushed from all of them."""
    told, known = [], []

    class Fleeing(Rung):
        def apply(self, task, seed):
            known.append(tuple(told))
            return super().apply(task, seed)

    verdicts = {1: (CLEAR, OTHER_COPY), 2: (COPY,), 3: (CLEAR,)}
    climb([Fleeing(1), Fleeing(2), Fleeing(3)], verdicts, learn=told.append)
    assert known == [(), (verdicts[1],), (verdicts[1], verdicts[2])]


def test_a_rung_that_breaks_is_passed_over_and_the_report_says_why():
    broken = Rung(1, error=RuntimeError("out of memory"))
    image, attempts, _ = climb([broken, Rung(2)], {2: (CLEAR,)})
    assert image.getpixel((0, 0)) == (2, 2, 2)
    assert [attempt.stopped for attempt in attempts] == ["RuntimeError: out of memory", "shade 2"]


def test_every_attempt_says_which_rung_it_was_what_it_cost_and_what_it_began_from_and_made():
    rungs = [
        Rung(1, 3.0, "first"),
        Rung(2, cost=4.0, name="broken", error=RuntimeError("lost")),
        Rung(3, 5.0, "third"),
        Rung(4, 6.0, "last"),
    ]
    verdicts = {1: (OTHER_COPY,), 3: (COPY, CLEAR), 4: (CLEAR,)}
    _, attempts, _ = climb(rungs, verdicts)
    assert [attempt.strategy for attempt in attempts] == ["first", "broken", "third", "last"]
    assert [attempt.nfe for attempt in attempts] == [3.0, 4.0, 5.0, 6.0]
    assert [attempt.after for attempt in attempts] == [verdicts[1], (), verdicts[3], verdicts[4]]
    # a rung that made nothing leaves what the next one begins from as it was
    assert [attempt.before for attempt in attempts] == [(COPY,), verdicts[1], verdicts[1], verdicts[3]]


def test_no_two_rungs_draw_the_same_and_each_knows_how_many_came_before():
    again = Rung(1)
    _, attempts, _ = climb([again, again, Rung(1, name="another")], {1: (COPY,)})
    assert [number for number, _ in again.calls] == [0, 1]
    assert [attempt.seed for attempt in attempts] == [
        derive(7, name, number) for number, name in enumerate(["rung", "rung", "another"])
    ]
    assert [seed for _, seed in again.calls] == [attempt.seed for attempt in attempts[:2]]


@pytest.mark.parametrize(("overhead", "tried"), [(0.0, 0), (0.5, 1), (1.0, 1), (1.1, 2), (8.0, 3)])
def test_no_rung_begins_once_the_evaluations_are_spent(overhead, tried):
    image, attempts, reason = climb([Rung(1)] * 3, {1: (COPY,)}, Budget(overhead=overhead))
    assert image is None
    assert len(attempts) == tried
    assert reason == (
        "none of 3 strategies gave a picture that passes"
        if tried == 3
        else f"budget of {overhead} × the plain cost is spent"
    )


def test_no_rung_begins_once_the_time_is_spent(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    class Slow(Rung):
        def apply(self, task, seed):
            now[0] += 2.0
            return super().apply(task, seed)

    for seconds, tried in ((0.0, 0), (2.0, 1), (3.0, 2), (None, 3)):
        _, attempts, reason = climb([Slow(1)] * 3, {1: (COPY,)}, Budget(seconds=seconds))
        assert len(attempts) == tried
        assert [attempt.seconds for attempt in attempts] == [2.0] * tried
        assert (reason == f"budget of {seconds} s is spent") == (seconds is not None)


def test_a_cancelled_request_begins_no_further_rung():
    asked = iter([False, True])
    image, attempts, reason = climb([Rung(1)] * 3, {1: (COPY,)}, Budget(cancelled=lambda: next(asked)))
    assert (image, len(attempts), reason) == (None, 1, "cancelled")


def test_a_ladder_without_rungs_hands_out_nothing():
    image, attempts, reason = climb([], {})
    assert (image, attempts) == (None, [])
    assert "none of 0 strategies" in reason


@pytest.mark.parametrize("amount", [-0.1, float("nan")])
@pytest.mark.parametrize("name", ["overhead", "seconds"])
def test_a_budget_that_is_none_is_named(name, amount):
    with pytest.raises(ConfigError, match=f"cannot be negative or NaN: .*{name} {amount}"):
        Budget(**{name: amount})
    assert getattr(Budget(**{name: 0}), name) == 0


def test_by_default_a_flagged_image_may_cost_eight_plain_ones_and_any_time():
    assert Budget() == Budget(overhead=8.0, seconds=None, cancelled=None)
    assert Ladder().budget == Budget()


def test_strategies_are_made_by_name_in_order_and_an_unknown_one_is_named():
    names = (*reversed(DEFAULT_LADDER), *plugins.names("strategy"))
    assert tuple(strategy.name for strategy in strategies(names)) == names
    assert Ladder().rungs == strategies(DEFAULT_LADDER)
    with pytest.raises(ConfigError, match=r"unknown strategy 'wish'; there are condition, despecified, "):
        strategies(("condition", "wish", "hope"))


@pytest.mark.parametrize("name", plugins.names("strategy"))
def test_a_strategy_does_what_its_name_says(name):
    strategy = strategies([name])[0]
    if hasattr(strategy, "nudge_condition"):
        assert strategy.nudge_condition == name.endswith("+condition")
    if hasattr(strategy, "through"):
        assert strategy.through == ("-through" in name)
    if hasattr(strategy, "space"):
        looks = "preview" if name.startswith("trajectory") else "decode"
        assert strategy.space == (looks if "-encoder" in name else "latent")
