"""What every command shares: checks that cost nothing, errors of one line, and Ctrl-C at the right moment."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from steerclear.errors import InputError, SteerclearError

OK, BAD_INPUT, FLAGGED, STOPPED = 0, 2, 3, 130  # exit codes
LARGEST_SEED = 2**63 - 1
MOST_SEEDS = 100_000


@contextmanager
def one_line_errors(stopped: str = "stopped; what is finished is kept") -> Iterator[None]:
    """Exit with code 2 and one line on stderr for a SteerclearError, with 130 and `stopped` for Ctrl-C."""
    try:
        yield
    except SteerclearError as error:
        complain(error)
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt as error:
        typer.echo(stopped, err=True)
        raise typer.Exit(STOPPED) from error


def complain(error: object) -> None:
    """Say what is wrong, in one line on stderr."""
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)


def read_prompts(words: Sequence[str], file: Path | None) -> list[str]:
    """The prompts given as arguments, then those of a file: one a line, blank lines skipped.

    What follows a tab in the file is no part of the prompt: the lists that come with the embedded model name
    the protected picture there. Raises InputError for no prompt at all, an empty or an overlong one.
    """
    prompts = [(one, "the prompt") for one in words]
    if file is not None:
        prompts += [
            (line.partition("\t")[0], f"line {number} of {str(file)!r}")
            for number, line in enumerate(_lines(file), start=1)
            if line.strip()
        ]
    if not prompts:
        where = f"there is no prompt in {str(file)!r}" if file else "no prompt was given"
        raise InputError(f'{where}; try: steerclear generate "a cat, noto style"')
    return [_prompt(one, name) for one, name in prompts]


def _prompt(one: str, name: str) -> str:
    if not one.strip():
        raise InputError(f"{name} is empty ({one!r}); say what the picture should show")
    from steerclear.request import LONGEST_PROMPT

    if len(one) > LONGEST_PROMPT:
        raise InputError(
            f"{name} has {len(one)} characters; {LONGEST_PROMPT} is the most, and models read far less"
        )
    try:
        one.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{name} is not valid UTF-8 text: {one!r}") from error
    return one


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the prompts {str(file)!r}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the prompts {str(file)!r}: not UTF-8 text ({error.reason})") from error


def read_seeds(text: str) -> list[int]:
    """Seeds as written on the command line: `0-3`, `0,5,7`, `0-3,9`. Each once, in order.

    Raises InputError for anything else, for a seed beyond 2**63 - 1, and for more than 100,000 seeds.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,19})(?:\s*-\s*([0-9]{1,19}))?\s*", part)
        if found is None:
            raise InputError(
                f"seeds {text!r} cannot be read at {part!r}; write them like 0-3 or 0,5,7, each from 0 to {LARGEST_SEED}"
            )
        first, last = int(found[1]), int(found[2] or found[1])
        if max(first, last) > LARGEST_SEED:
            raise InputError(f"seed {max(first, last)} is out of range; seeds go from 0 to {LARGEST_SEED}")
        if last < first:
            raise InputError(f"seeds {part.strip()!r} run backwards; write {last}-{first}")
        if last - first + len(seeds) >= MOST_SEEDS:
            raise InputError(f"seeds {text!r} are more than {MOST_SEEDS}; run them in parts")
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return list(seeds)


def whole(text: str) -> int:
    """A whole number on the command line; a parser for typer, whose own message does not name the value."""
    return int(_number(text, int, "whole number"))


def number(text: str) -> float:
    """A number on the command line, as `whole`."""
    return _number(text, float, "number")


def _number(text: str, kind: Callable[[str], float], name: str) -> float:
    try:
        return kind(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no {name}") from error


def check_folder(folder: Path, option: str = "--out") -> None:
    """InputError unless pictures can be written into `folder`, which need not be there yet. Makes nothing."""
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
    except (OSError, StopIteration) as error:
        raise InputError(
            f"{option} {str(folder)!r} cannot be used: {error}; choose another folder"
        ) from error
    if not nearest.is_dir():
        what = "is a file" if nearest == folder else f"cannot be made, since {str(nearest)!r} is a file"
        raise InputError(f"{option} {str(folder)!r} {what}; choose a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(
            f"{option} {str(folder)!r} cannot be written: no permission for {str(nearest)!r}; choose another folder"
        )


def check_file(path: Path, option: str = "--out") -> None:
    """InputError unless a file can be written at `path`. Makes nothing."""
    if path.is_dir():
        raise InputError(f"{option} {str(path)!r} is a folder; name the file to write")
    check_folder(path.parent, option)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block is through, so that a picture and its report line appear together."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = False

    def hold(number: int, frame: Any) -> None:
        nonlocal held
        held = True

    before = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar with the remaining time on stderr, where that is a terminal."""
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
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # rich would send stdout through the bar's console; only where both are the terminal is that wanted
    shared = sys.stdout.isatty()
    with Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=shared) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
