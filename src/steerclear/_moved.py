"""Old import paths of names that have moved: each works for one release, with a warning that says where it
lives now.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def moved(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` that forwards old names, with a DeprecationWarning.

    Args:
        module: the name of the module whose old names they are.
        homes: old name → `module:name` of today.

    Returns:
        The function, which raises AttributeError for any other name.
    """

    def forward(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, new = homes[name].partition(":")
        warnings.warn(
            f"{module}.{name} has moved to {home}.{new}; this path goes with the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(home), new)

    return forward
