"""A recipe read from a picture. A damaged one is refused, and so is a plugin that only the file names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

from steerclear import plugins
from steerclear.cli.recipe import Lora, Preferred, PromptAndSeed, Recipe
from steerclear.cli.recipe_checks import check_recipe
from steerclear.errors import ConfigError, InputError

# fields that may be missing in pictures of earlier versions
ADDED_LATER = (
    "filters",
    "encoder",
    "library_version",
    "alternatives",
    "alternatives_fingerprint",
    "negative_prompt",
    "height",
    "width",
    "scheduler",
    "loras",
    "together",
    "image",
    "dtype",
    "variant",
    "config",
    "offload",
    "compile",
)
# fields that hold lists of objects: the keys of an object, and their types
LISTS: Mapping[str, Mapping[str, Any]] = {
    "loras": {"file": str, "sha256": str, "scale": int | float},
    "together": {"prompt": str, "seed": int},
}
OPTIONS: Mapping[plugins.Kind, str] = {"strategy": "--ladder", "filter": "--filter", "encoder": "--encoder"}


def read_recipe(
    document: Mapping[str, Any],
    source: str,
    trusted: Mapping[plugins.Kind, Collection[str]] | None = None,
) -> Recipe:
    """The recipe that a PNG carried.

    Args:
        document: the JSON object.
        source: the file it comes from, for messages.
        trusted: the `module:object` names that the user gave as well; no other is imported.

    Raises:
        InputError: for a damaged recipe; names the source and the first field at fault.
        ConfigError: for a filter, encoder or strategy that must not be imported because a file names it.
    """
    defaults = Recipe()
    values: dict[str, Any] = {}
    for field in fields(Recipe):
        if field.name in ADDED_LATER and field.name not in document:
            continue
        value = document.get(field.name)
        if not _has_type(value, field.name, getattr(defaults, field.name)):
            raise InputError(f"the recipe in {source!r} is damaged: {field.name} is {value!r}")
        values[field.name] = tuple(value) if isinstance(value, list) else value
    values["prefer"] = tuple(Preferred(**preferred) for preferred in values["prefer"])
    values["loras"] = tuple(Lora(**lora) for lora in values.get("loras", ()))
    values["together"] = tuple(PromptAndSeed(**entry) for entry in values.get("together", ()))
    try:
        values["guidance"] = float(values["guidance"])
    except OverflowError as error:
        raise InputError(f"the recipe in {source!r} is damaged: guidance is beyond any number") from error
    recipe = Recipe(**values)
    _check_trusted(recipe, source, trusted or {})
    check_recipe(recipe)
    return recipe


def _has_type(value: Any, name: str, default: Any) -> bool:
    if name in ("ladder", "filters"):
        return isinstance(value, list) and all(isinstance(plugin, str) for plugin in value)
    if name == "prefer":
        return isinstance(value, list) and all(
            isinstance(preferred, dict)
            and set(preferred) in ({"text"}, {"image", "sha256"})
            and all(isinstance(text, str) for text in preferred.values())
            for preferred in value
        )
    if name in LISTS:
        kinds = LISTS[name]
        return isinstance(value, list) and all(
            isinstance(entry, dict)
            and set(entry) == set(kinds)
            and all(isinstance(entry[key], kind) for key, kind in kinds.items())
            for entry in value
        )
    if isinstance(value, bool) or name == "compile":
        return isinstance(value, bool) and name == "compile"
    if name in ("library_version", "height", "width"):
        return value is None or isinstance(value, int)
    if name == "budget":
        return value is None or isinstance(value, int | float)
    return isinstance(value, int | float) if isinstance(default, float) else isinstance(value, type(default))


def _check_trusted(recipe: Recipe, source: str, trusted: Mapping[plugins.Kind, Collection[str]]) -> None:
    """Refuse what only a file names: a module that would be imported, an encoder that would be fetched."""
    for kind, name in recipe.plugin_names():
        if name in trusted.get(kind, ()):
            continue
        way_out = f"if it is your own, pass {OPTIONS[kind]} {name} as well"
        if kind == "encoder" and ":" in name:
            raise ConfigError(
                f"the recipe in {source!r} names the encoder {name!r}, which is not loaded just because a "
                f"file names it; {way_out}"
            )
        try:
            plugins.check_registered(kind, name, f"the recipe in {source!r}")
        except ConfigError as error:
            raise ConfigError(f"{error}; {way_out}" if ":" in name else str(error)) from error
