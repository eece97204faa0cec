"""Nudging: the paper's objective, the strategies that apply it, and the ladder that orders them."""

from steerclear.nudge.base import Candidate, SteerTask, Strategy
from steerclear.nudge.ladder import DEFAULT_LADDER, Budget, Ladder, strategies
from steerclear.nudge.objective import Objective, minimise

__all__ = [
    "DEFAULT_LADDER",
    "Budget",
    "Candidate",
    "Ladder",
    "Objective",
    "SteerTask",
    "Strategy",
    "minimise",
    "strategies",
]
