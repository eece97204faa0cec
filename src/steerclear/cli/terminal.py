"""What every command shares on the terminal: exit codes, one-line errors, Ctrl-C, progress, tables, JSON."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import typer

from steerclear.errors import SteerclearError

OK, PROBLEMS, BAD_INPUT, FLAGGED, STOPPED = 0, 1, 2, 3, 130  # exit codes


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, completed: int | None = None, total: int | None = None) -> None:
        """One more item is finished; or `completed` of `total` are."""


@contextmanager
def one_line_errors(stopped: str = "stopped") -> Iterator[None]:
    """Turn what goes wrong in a command into one line on stderr and an exit code.

    A SteerclearError exits with BAD_INPUT (2), Ctrl-C with STOPPED (130). Any other exception is a bug and
    passes through.

    Args:
        stopped: what is printed after Ctrl-C: what became of the work.
    """
    try:
        yield
    except SteerclearError as error:
        print_error(error)
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt as error:
        echo(stopped, err=True)
        raise typer.Exit(STOPPED) from error


def visible(text: str) -> str:
    """A text in which every character can be seen: the others are escaped, as Python does.

    File names, captions and notes may be somebody else's. A terminal would obey their escape codes, and show
    a text with right-to-left marks or newlines as another one.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def echo(line: str = "", *, err: bool = False) -> None:
    """Print one line, with invisible characters escaped.

    Args:
        line: the text.
        err: on stderr instead of stdout.
    """
    typer.echo(visible(line), err=err)


def print_error(error: object) -> None:
    """Print `error: …` in one line on stderr."""
    echo(f"error: {' '.join(str(error).split())}", err=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the block has ended, so that a picture is never saved without its report line."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def remember(number: int, frame: Any) -> None:
        nonlocal interrupted
        interrupted = True

    previous_handler = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    if interrupted:
        raise KeyboardInterrupt


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Advance]:
    """Show a bar with rate and remaining time on stderr, where that is a terminal.

    Args:
        label: what is being done, such as "generating".
        total: number of items, if it is known already.

    Yields:
        A callback; call it after each item, or with the number of finished items and the total.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # rich would send stdout through the bar's console; only where both are the terminal is that wanted
    shared = sys.stdout.isatty()
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=shared) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance(completed: int | None = None, total: int | None = None) -> None:
            if completed is None:
                bar.advance(task)
            else:
                bar.update(task, completed=completed, total=total)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield advance


def quiet_libraries() -> None:
    """Keep the progress bars and hints of diffusers and transformers off stderr, which is for our own."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def print_json(value: Any) -> None:
    """Print indented JSON on stdout; what cannot be seen is escaped in it, as JSON does."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    typer.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their widest cell. Cells are never cut, so that grep finds everything.

    Args:
        header: names of the columns.
        rows: cells, one list for each row.
    """
    header, rows = [visible(cell) for cell in header], [[visible(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
