"""Filters, encoders, strategies and commands by name: those that ship inside and those of other packages.

All of them are Python entry points. A package adds a filter with these lines in its `pyproject.toml`:

    [project.entry-points."steerclear.filters"]
    watermark = "my_package.filters:WatermarkFilter"

Without such lines, the same object can be named as `my_package.filters:WatermarkFilter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from steerclear.errors import ConfigError, SteerclearError

Kind = Literal["filter", "encoder", "strategy", "command"]

GROUPS: Mapping[Kind, str] = {
    "filter": "steerclear.filters",
    "encoder": "steerclear.encoders",
    "strategy": "steerclear.strategies",
    "command": "steerclear.commands",
}
# the distribution that registers further names
LABORATORY = "steerclear-lab"


def names(kind: Kind) -> list[str]:
    """Returns all registered names of a kind, in alphabetical order."""
    return sorted(_registered(kind))


def is_registered(kind: Kind, name: str) -> bool:
    """Whether an installed package registers a name.

    Args:
        kind: the kind of object.
        name: the name.
    """
    return name in _registered(kind)


def load(kind: Kind, name: str) -> Any:
    """Imports the object behind a name.

    Args:
        kind: the kind of object.
        name: a registered name, or `module:object` for an object that no package registers.

    Returns:
        The object itself; `named_filters`, `load_encoder` and `strategies` say what it must be.

    Raises:
        ConfigError: if nothing is registered under this name, or it cannot be imported.
    """
    entry = _registered(kind).get(name)
    if entry is None and ":" not in name:
        raise ConfigError(
            f"unknown {kind} {name!r}; there are {', '.join(names(kind))}; name an object of your own as "
            "module:object"
        )
    try:
        if entry is not None:
            return entry.load()
        module, _, path = name.partition(":")
        loaded: Any = import_module(module)
        for attribute in path.split("."):
            loaded = getattr(loaded, attribute)
        return loaded
    except Exception as error:  # importing runs code of other packages, which may raise anything
        raise ConfigError(
            f"the {kind} {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def make(kind: Kind, name: str, entry: Any, *arguments: Any) -> Any:
    """Call what a plugin registers, to get the object itself.

    Args:
        kind: the kind of object, for the message.
        name: the plugin's name, for the message.
        entry: the callable.
        *arguments: what it is called with.

    Raises:
        ConfigError: if it cannot be called so, or raises.
    """
    try:
        return entry(*arguments)
    except SteerclearError:
        raise
    except Exception as error:  # it is other people's code, which may raise anything
        reason = str(error).splitlines()[0] if str(error) else ""
        raise ConfigError(f"the {kind} {name!r} cannot be made: {type(error).__name__}: {reason}") from error


def check_registered(kind: Kind, name: str, source: str, *, advice: str = "name it yourself as well") -> None:
    """Refuses a name that is not registered, where the name comes from a file and not from the user.

    `module:object` imports whatever it names; a picture's recipe or a library's metadata must not decide
    that.

    Args:
        kind: the kind of object.
        name: the name in the file.
        source: what the file is, for the error message.
        advice: how the user can name it, for the error message.

    Raises:
        ConfigError: if no installed package registers the name.
    """
    if not is_registered(kind, name):
        raise ConfigError(
            f"{source} names the {kind} {name!r}, which no installed package registers, and a name in a "
            f"file is not imported. If you trust it, {advice}. Registered are "
            f"{', '.join(names(kind))}; more are in {LABORATORY}"
        )


@cache
def _registered(kind: Kind) -> dict[str, EntryPoint]:
    # the product comes first: another package cannot take one of its names
    entries = sorted(
        entry_points(group=GROUPS[kind]), key=lambda entry: entry.module.split(".")[0] != "steerclear"
    )
    registered: dict[str, EntryPoint] = {}
    for entry in entries:
        registered.setdefault(entry.name, entry)
    return registered
