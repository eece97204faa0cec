"""What the library's commands share: one-line errors, a progress bar, tables and JSON on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from steerclear.errors import SteerclearError
from steerclear.library.ingest import Progress


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Exit with code 2 and one line on stderr for a SteerclearError, with 130 for an interrupt."""
    try:
        yield
    except SteerclearError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        typer.echo("stopped; what was committed is safe, the same command again does the rest", err=True)
        raise typer.Exit(130) from error


@contextmanager
def progress_bar() -> Iterator[Callable[[Progress], None]]:
    """A bar with rate and remaining time on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("adding"), BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())
    console = Console(stderr=True)
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, rate="")

        def on_progress(state: Progress) -> None:
            bar.update(task, total=state.total, completed=state.done)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield on_progress


def print_json(value: Any) -> None:
    """Indented JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell, never cut: the output is also read by grep."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
