"""Pages of the documentation: a template of `templates/` filled with the values of a document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template.

    Templates may use the filters `fixed(places)` (0.5 → "0.50"), `percent(places=0)` (0.5 → "50%") and
    `thousands` (10000 → "10,000").

    Args:
        template: its file name in `templates/`, such as "scale.md.j2".
        values: the names that the template uses.

    Returns:
        The text of the page, which ends with one line break.

    Raises:
        jinja2.UndefinedError: the template uses a name that `values` lacks.
    """
    return _environment().get_template(template).render(values).rstrip("\n") + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        header: the titles of the columns.
        rows: the cells of each row, one per column.

    Returns:
        Its lines, without a line break at the end.
    """
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        # Markdown for our own site, of our own numbers; HTML templates escape by `|e`
        autoescape=False,  # nosec B701
    )
    environment.filters["fixed"] = lambda value, places: f"{value:.{places}f}"
    environment.filters["percent"] = lambda value, places=0: f"{value:.{places}%}"
    environment.filters["thousands"] = lambda value: f"{value:,}"
    return environment
