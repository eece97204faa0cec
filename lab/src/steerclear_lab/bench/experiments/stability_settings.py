"""The settings and minimisers of the objective that the stability experiment tries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

MINIMISERS = {
    "descent": "the guard's: normalised steps with backtracking, squared distance, "
    "regenerated under the nudged condition",
    "adam": "the paper's: Adam without backtracking, plain distance, "
    "regenerated under the request's own condition",
}


@dataclass(frozen=True)
class Setting:
    """A setting of the objective and its minimisation; the defaults are the guard's."""

    iterations: int = 40
    rate: float = 0.05
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0


SWEEPS: dict[str, tuple[Any, ...]] = {
    "iterations": (1, 10, 40, 160, 640),
    "rate": (0.005, 0.05, 0.5, 2.0, 10.0),
    "alpha": (0.0, 0.3, 1.0, 10.0, 100.0),
    "beta": (0.0, 0.3, 1.0, 10.0, 100.0),
    "gamma": (0.0, 0.1, 1.0, 10.0, 100.0),
}
CORNERS = (  # several at once
    Setting(iterations=160, rate=0.5, gamma=0.0),
    Setting(iterations=640, rate=10.0, alpha=100.0, beta=100.0, gamma=0.0),
)


def settings() -> tuple[Setting, ...]:
    """All settings: one value moved at a time, then several."""
    moved = [replace(Setting(), **{name: value}) for name, values in SWEEPS.items() for value in values]
    return tuple(dict.fromkeys([Setting(), *moved, *CORNERS]))
