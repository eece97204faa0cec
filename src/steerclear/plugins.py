"""Filters, encoders, strategies and commands by name: what ships inside and what other packages add come through one door.

The door is Python's entry points. A package adds a filter, say, with these lines in its `pyproject.toml`:

    [project.entry-points."steerclear.filters"]
    watermark = "my_package.filters:WatermarkFilter"

Without a package, the same object can be named as `my_package.filters:WatermarkFilter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from steerclear.errors import ConfigError

Kind = Literal["filter", "encoder", "strategy", "command"]

GROUPS: Mapping[Kind, str] = {
    "filter": "steerclear.filters",
    "encoder": "steerclear.encoders",
    "strategy": "steerclear.strategies",
    "command": "steerclear.commands",
}
# where the names come from that some page mentions and that are not part of the product
LABORATORY = "steerclear-lab"


def names(kind: Kind) -> list[str]:
    """All registered names of a kind, in alphabetical order."""
    return sorted(_registered(kind))


def is_registered(kind: Kind, name: str) -> bool:
    """Whether an installed package registers this name."""
    return name in _registered(kind)


def load(kind: Kind, name: str) -> Any:
    """The object behind a name.

    Args:
        kind: what is asked for.
        name: a registered name, or `module:object` for an object that no package registers.

    Returns:
        The object itself: what it must be is said where it is used (`named_filter`, `load_encoder`, `strategies`).

    Raises:
        ConfigError: if nothing is registered under this name, or it cannot be imported.
    """
    entry = _registered(kind).get(name)
    if entry is None and ":" not in name:
        raise ConfigError(
            f"unknown {kind} {name!r}; there are {', '.join(names(kind))}; an object of your own is named module:object"
        )
    try:
        if entry is not None:
            return entry.load()
        module, _, path = name.partition(":")
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        return found
    except Exception as error:  # importing runs other people's code, which may raise anything
        raise ConfigError(
            f"the {kind} {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def check_registered(kind: Kind, name: str, source: str) -> None:
    """Refuse a name that is not registered, where the name comes from a file and not from the user.

    `module:object` imports whatever it names: a picture's recipe or a library's metadata must not decide that.

    Raises:
        ConfigError: if no installed package registers the name.
    """
    if not is_registered(kind, name):
        raise ConfigError(
            f"{source} names the {kind} {name!r}, which no installed package registers; it is not imported on the word of a "
            f"file. Known are {', '.join(names(kind))}; more are in {LABORATORY}"
        )


@cache
def _registered(kind: Kind) -> dict[str, EntryPoint]:
    # the product comes first: another package cannot take one of its names
    found = sorted(
        entry_points(group=GROUPS[kind]), key=lambda entry: entry.module.split(".")[0] != "steerclear"
    )
    registered: dict[str, EntryPoint] = {}
    for entry in found:
        registered.setdefault(entry.name, entry)
    return registered
