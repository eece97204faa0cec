"""Methods of one instance replaced for a while, and restored whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def overridden(instance: Any, **attributes: Any) -> Iterator[None]:
    """Give one instance attributes of its own until the block ends.

    Instance attributes that it had before are restored; those of its class were never touched.

    Args:
        instance: any object with a `__dict__`.
        **attributes: by name, methods included.
    """
    present = vars(instance)
    before = {name: present[name] for name in attributes if name in present}
    present.update(attributes)
    try:
        yield
    finally:
        for name in attributes:
            present.pop(name, None)
        present.update(before)
