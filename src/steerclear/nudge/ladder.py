"""The ladder: strategies in order, each result verified, until one passes or the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real

from PIL import Image

from steerclear import plugins
from steerclear.devices import raise_if_lost
from steerclear.errors import ConfigError
from steerclear.generators.passes import InterruptedRun
from steerclear.nudge.base import Candidate, Strategy, Task
from steerclear.pixels import rgb_copy
from steerclear.steering import derive
from steerclear.types import Attempt, Detection

# Texts first: they keep the request's subject and cost one plain generation each. Then a condition beyond the
# text, and fresh noise: where texts fail, the composition itself resembles the copy. A nudge of the latent
# comes once in between.
DEFAULT_LADDER = (
    "rewrite",
    "rewrite",
    "extrapolate",
    "resample",
    "resample",
    "final-latent+condition",
    "resample",
    "resample",
    "resample",
)


@dataclass(frozen=True)
class Budget:
    """What one flagged image may cost beyond its first run.

    No rung begins once either limit is reached.

    Attributes:
        overhead: denoiser evaluations, as a multiple of the plain pipeline's.
        seconds: wall time; None for no limit.
        cancelled: asked before every rung and at each step of a pipeline, so that a caller who no longer
            waits can end the request, for example with the `is_set` of a `threading.Event`.

    Raises:
        ConfigError: for a limit that is no number, negative or NaN, and a `cancelled` that cannot be called.
    """

    overhead: float = 8.0
    seconds: float | None = None
    cancelled: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        for name in ("overhead", "seconds"):
            value = getattr(self, name)
            if not (isinstance(value, Real) or (value is None and name == "seconds")):
                raise ConfigError(f"a budget's {name} is {value!r}; pass a number")
        if self.cancelled is not None and not callable(self.cancelled):
            raise ConfigError(
                f"a budget's cancelled is {self.cancelled!r}; pass a function, such as an Event's is_set"
            )
        if not self.overhead >= 0 or (self.seconds is not None and not self.seconds >= 0):
            raise ConfigError(
                f"a budget cannot be negative or NaN: overhead {self.overhead}, seconds {self.seconds}"
            )


@dataclass(frozen=True)
class Ladder:
    """Strategies in order, cheapest first.

    Attributes:
        rungs: the strategies.
        budget: for each flagged image.
    """

    rungs: tuple[Strategy, ...] = field(default_factory=lambda: strategies(DEFAULT_LADDER))
    budget: Budget = field(default_factory=Budget)

    def climb(
        self,
        task: Task,
        plain_nfe: float,
        before: tuple[Detection, ...],
        verify: Callable[[Candidate, Image.Image], tuple[Detection, ...]],
        learn: Callable[[tuple[Detection, ...]], None],
    ) -> tuple[Image.Image | None, list[Attempt], str | None]:
        """Try the rungs until a picture passes.

        Args:
            task: the flagged image.
            plain_nfe: what the plain pipeline spends on it.
            before: detections of the flagged image.
            verify: runs the guard's filters on a candidate's picture, the very one that is handed out if it
                passes.
            learn: is given the detections of every candidate, so that the next rung is pushed from what a
                failed one resembled as well.

        Returns:
            The picture, or None; every attempt; and why no picture passed, or None.
        """
        began, attempts = time.monotonic(), list[Attempt]()
        for number, rung in enumerate(self.rungs):
            spent = time.monotonic() - began
            if task.nfe >= self.budget.overhead * plain_nfe:
                return None, attempts, f"budget of {self.budget.overhead} × the plain cost is spent"
            if self.budget.seconds is not None and spent >= self.budget.seconds:
                return None, attempts, f"budget of {self.budget.seconds} s is spent"
            if self.budget.cancelled is not None and self.budget.cancelled():
                return None, attempts, "cancelled"
            start, nfe_before, seed = time.monotonic(), task.nfe, derive(task.seed, rung.name, number)
            task.attempt, task.strategy = number, rung.name
            image: Image.Image | None = None
            after: tuple[Detection, ...] = ()
            try:
                candidate = rung.apply(task, seed)
                # a strategy may be a plugin, which could give another picture each time or paint over its own
                image, stopped = rgb_copy(candidate.image), candidate.stopped
                after = verify(candidate, image)
                learn(after)
            except InterruptedRun as stop:
                return None, attempts, str(stop)
            except Exception as error:  # a rung that fails must cost neither the batch nor the promise
                raise_if_lost(error)
                stopped = f"{type(error).__name__}: {error}"
            seconds = time.monotonic() - start
            attempts.append(
                Attempt(
                    strategy=rung.name,
                    seed=seed,
                    nfe=task.nfe - nfe_before,
                    seconds=seconds,
                    before=before,
                    after=after,
                    stopped=stopped,
                )
            )
            if attempts[-1].passed:
                return image, attempts, None
            before = after or before
        return None, attempts, f"none of {len(self.rungs)} strategies gave a picture that passes"


def strategies(names: Sequence[str]) -> tuple[Strategy, ...]:
    """Load strategies by name.

    Args:
        names: registered names, or `module:object`. The object is a strategy, or a callable without arguments
            that makes one.

    Raises:
        ConfigError: for an unknown name, or an object that is no strategy.
    """
    return tuple(_strategy(name) for name in names)


def _strategy(name: str) -> Strategy:
    if not isinstance(name, str):
        raise ConfigError(f"{name!r} is no strategy's name; pass names, or a Ladder of strategies")
    entry = plugins.load("strategy", name)
    ready = isinstance(entry, Strategy) and not isinstance(entry, type)
    strategy = entry if ready else plugins.make("strategy", name, entry)
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"{name!r} is no strategy: it needs a name, and apply(task, seed)")
    return strategy
