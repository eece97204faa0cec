"""Pages of the documentation: a Markdown template of `templates/` filled with what a document holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, values: Mapping[str, Any]) -> str:
    """The page that a template makes of these values.

    Args:
        template: its file name in `templates/`, such as "scale.md.j2".
        values: what the template names; a name that is missing is an error, not an empty place.

    Returns:
        The Markdown text, which ends with one line break.
    """
    return _environment().get_template(template).render(values).rstrip("\n") + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown for our own site, of our own numbers
    )
