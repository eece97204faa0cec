"""steerclear: an image generator that never hands out what it must not, and almost never hands out nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steerclear._version import __version__

_HOMES = {
    "Attempt": "types",
    "Budget": "nudge.ladder",
    "CodeGuard": "code_guard",
    "Detection": "types",
    "Guard": "guard",
    "GuardOutput": "types",
    "Ladder": "nudge.ladder",
    "Library": "library",
    "Outcome": "types",
    "Report": "types",
    "SteerclearError": "errors",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from steerclear.code_guard import CodeGuard as CodeGuard
    from steerclear.errors import SteerclearError as SteerclearError
    from steerclear.guard import Guard as Guard
    from steerclear.library import Library as Library
    from steerclear.nudge.ladder import Budget as Budget
    from steerclear.nudge.ladder import Ladder as Ladder
    from steerclear.types import Attempt as Attempt
    from steerclear.types import Detection as Detection
    from steerclear.types import GuardOutput as GuardOutput
    from steerclear.types import Outcome as Outcome
    from steerclear.types import Report as Report


def __getattr__(name: str) -> Any:
    """Load a public name on first use: torch and diffusers take seconds, and `--help` should not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'steerclear' has no attribute {name!r}")
    from steerclear._imports import collector_paused

    with collector_paused():
        return getattr(import_module(f"steerclear.{_HOMES[name]}"), name)
