"""The ladder: strategies in order, each result verified, until one passes or the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image

from steerclear.errors import ConfigError
from steerclear.nudge.base import Candidate, Strategy, Task
from steerclear.nudge.condition import ConditionNudge, Despecified, Resample, Rewrite
from steerclear.nudge.final_latent import FinalLatent
from steerclear.nudge.guidance_window import GuidanceWindow
from steerclear.nudge.magnitude import Magnitude
from steerclear.nudge.noise import Noise
from steerclear.nudge.shield import Shield
from steerclear.nudge.space import DECODE, PREVIEW
from steerclear.nudge.trajectory import Trajectory
from steerclear.steering import derive
from steerclear.types import Attempt, Detection

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "condition": ConditionNudge,
    "rewrite": Rewrite,
    "despecified": Despecified,
    "magnitude": Magnitude,
    "guidance-window": GuidanceWindow,
    "final-latent": lambda: FinalLatent(name="final-latent", nudge_condition=False),
    "final-latent+condition": FinalLatent,
    "trajectory": lambda: Trajectory(name="trajectory", nudge_condition=False),
    "trajectory+condition": Trajectory,
    "final-latent-encoder": lambda: FinalLatent(
        name="final-latent-encoder", nudge_condition=False, space=DECODE
    ),
    "final-latent-encoder+condition": lambda: FinalLatent(
        name="final-latent-encoder+condition", space=DECODE
    ),
    "trajectory-encoder": lambda: Trajectory(name="trajectory-encoder", nudge_condition=False, space=PREVIEW),
    "trajectory-encoder+condition": lambda: Trajectory(name="trajectory-encoder+condition", space=PREVIEW),
    "trajectory-through": lambda: Trajectory(name="trajectory-through", nudge_condition=False, through=True),
    "trajectory-through+condition": lambda: Trajectory(name="trajectory-through+condition", through=True),
    "shield": lambda: Shield(name="shield", nudge_condition=False),
    "shield+condition": Shield,
    "noise": lambda: Noise(name="noise", nudge_condition=False),
    "noise+condition": Noise,
    "resample": Resample,
}

# as the rule of `steerclear.bench.rungs` makes it of docs/benchmarks/rungs.json
DEFAULT_LADDER = (
    "rewrite", "trajectory+condition", "noise+condition", "final-latent+condition", "despecified", "rewrite",
    "resample", "resample", "resample",
)  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """What one flagged image may cost beyond its first pass.

    overhead: denoiser evaluations, as a multiple of the plain pipeline's; seconds: wall time, None for no limit; cancelled:
    asked before every rung, so that a caller who no longer waits can end it (an `Event.is_set`, say). No rung begins once
    either is spent or the request is cancelled.
    """

    overhead: float = 8.0
    seconds: float | None = None
    cancelled: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        if not self.overhead >= 0 or (self.seconds is not None and not self.seconds >= 0):
            raise ConfigError(
                f"a budget cannot be negative or NaN: overhead {self.overhead}, seconds {self.seconds}"
            )


@dataclass(frozen=True)
class Ladder:
    """Strategies, cheapest first."""

    rungs: tuple[Strategy, ...] = field(default_factory=lambda: strategies(DEFAULT_LADDER))
    budget: Budget = field(default_factory=Budget)

    def climb(
        self,
        task: Task,
        plain_nfe: float,
        before: tuple[Detection, ...],
        verify: Callable[[Candidate], tuple[Detection, ...]],
        learn: Callable[[tuple[Detection, ...]], None],
    ) -> tuple[Image.Image | None, list[Attempt], str | None]:
        """Try the rungs until a picture passes. Returns it (or None), every attempt, and why none passed.

        verify: the guard's filters on a candidate; learn: told of what a failed candidate resembled, so that the
        next rung is pushed from that as well.
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
            start, cost, seed = time.monotonic(), task.nfe, derive(task.seed, rung.name, number)
            task.attempt = number
            image: Image.Image | None = None
            after: tuple[Detection, ...] = ()
            try:
                candidate = rung.apply(task, seed)
                image, stopped, after = candidate.image, candidate.stopped, verify(candidate)
                learn(after)
            except Exception as error:  # a rung that fails must cost neither the batch nor the promise
                stopped = f"{type(error).__name__}: {error}"
            seconds = time.monotonic() - start
            attempts.append(Attempt(rung.name, seed, task.nfe - cost, seconds, before, after, stopped))
            if attempts[-1].passed:
                return image, attempts, None
            before = after or before
        return None, attempts, f"none of {len(self.rungs)} strategies gave a picture that passes"


def strategies(names: Sequence[str]) -> tuple[Strategy, ...]:
    """Strategies by name, as the command line and settings write them. Raises ConfigError for an unknown one."""
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        raise ConfigError(f"unknown strategy {unknown[0]!r}; there are {', '.join(STRATEGIES)}")
    return tuple(STRATEGIES[name]() for name in names)
