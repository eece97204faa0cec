"""Methods of one instance replaced for a while, and given back whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def overridden(thing: Any, **methods: Any) -> Iterator[None]:
    """Let `thing` have these attributes of its own until the block ends; what it had of its own before comes back."""
    own = vars(thing)
    before = {name: own[name] for name in methods if name in own}
    own.update(methods)
    try:
        yield
    finally:
        for name in methods:
            own.pop(name, None)
        own.update(before)
