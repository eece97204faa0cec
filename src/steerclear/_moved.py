"""Names that the documentation has shown and that lie elsewhere now: each is forwarded for one release."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

ENDS = "the old name is removed in the next release"


def forwarded(module: str, name: str, targets: Mapping[str, str]) -> Any:
    """The object that `module.name` was, for that module's `__getattr__`.

    Args:
        module: where the name was.
        name: what is asked for.
        targets: by old name, the full new one.

    Raises:
        AttributeError: if nothing of that name has moved.
    """
    if name not in targets:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    home, _, attribute = targets[name].rpartition(".")
    warnings.warn(f"{module}.{name} is {targets[name]} now; {ENDS}", DeprecationWarning, stacklevel=3)
    return getattr(import_module(home), attribute)
