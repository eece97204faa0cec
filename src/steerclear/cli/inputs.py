"""What the user typed, checked before anything costly begins: prompts, seeds, numbers, names and paths."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from steerclear import plugins
from steerclear.errors import InputError
from steerclear.library.files import read_text

LARGEST_SEED = 2**63 - 1
MOST_SEEDS = 100_000


def read_prompts(arguments: Sequence[str], file: Path | None) -> list[str]:
    """The prompts given as arguments, then those of a file.

    Args:
        arguments: prompts as given on the command line.
        file: one prompt a line; blank lines are skipped, and so is what follows a tab (the lists that come
            with the embedded model name the protected picture there).

    Raises:
        InputError: for no prompt at all, an empty or an overlong one, or a file that cannot be read.
    """
    prompts = [(text, "the prompt") for text in arguments]
    if file is not None:
        prompts += [
            (line.partition("\t")[0], f"line {number} of {str(file)!r}")
            for number, line in enumerate(read_text(file, "prompts").splitlines(), start=1)
            if line.strip()
        ]
    if not prompts:
        where = f"there is no prompt in {str(file)!r}" if file else "no prompt was given"
        raise InputError(f'{where}; try: steerclear generate "a cat, noto style"')
    for text, origin in prompts:
        check_prompt(text, origin)
    return [text for text, _ in prompts]


def check_prompt(text: str, origin: str) -> None:
    """Check a prompt.

    Args:
        text: the prompt.
        origin: where it stands, for the message.

    Raises:
        InputError: for an empty or an overlong one, or one that is no text.
    """
    if not text.strip():
        raise InputError(f"{origin} is empty ({text!r}); say what the picture should show")
    from steerclear.prompts import LONGEST_PROMPT

    if len(text) > LONGEST_PROMPT:
        raise InputError(
            f"{origin} has {len(text)} characters; {LONGEST_PROMPT} is the most, and models read far less"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{origin} is not valid UTF-8 text: {text!r}") from error


def read_seeds(text: str) -> list[int]:
    """Seeds as written on the command line, each once, in order.

    Args:
        text: like `0-3`, `0,5,7` or `0-3,9`.

    Raises:
        InputError: for anything else, for a seed beyond 2**63 - 1, and for more than 100,000 seeds.
    """
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,19})(?:\s*-\s*([0-9]{1,19}))?\s*", part)
        if match is None:
            raise InputError(
                f"seeds {text!r} cannot be read at {part!r}; write them like 0-3 or 0,5,7, "
                f"each from 0 to {LARGEST_SEED}"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if max(first, last) > LARGEST_SEED:
            raise InputError(f"seed {max(first, last)} is out of range; seeds go from 0 to {LARGEST_SEED}")
        if last < first:
            raise InputError(f"seeds {part.strip()!r} run backwards; write {last}-{first}")
        if last - first + len(seeds) >= MOST_SEEDS:
            raise InputError(f"seeds {text!r} are more than {MOST_SEEDS}; run them in parts")
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return list(seeds)


def read_names(kind: plugins.Kind, names: Sequence[str]) -> tuple[str, ...]:
    """Names of filters, encoders or strategies that the user typed, in order.

    A `module:object` is also looked for in the working folder. Only names from the command line may come
    here: see `plugins.check_registered` for names from files.

    Args:
        kind: what is named.
        names: registered names, or `module:object`; of an encoder also `KIND:SOURCE`.

    Raises:
        InputError: for an empty name.
    """
    for name in names:
        if not name.strip():
            raise InputError(f"the {kind} {name!r} has no name; give a registered one, or module:object")
        registered = plugins.is_registered(kind, name.partition(":")[0] if kind == "encoder" else name)
        if ":" in name and not registered and os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())  # last, so that nothing there hides an installed module
    return tuple(names)


def whole_number(text: str) -> int:
    """Parse a whole number for typer, whose own message does not name the value."""
    return int(_number(text, int, "whole number"))


def number(text: str) -> float:
    """Parse a number for typer, whose own message does not name the value."""
    return _number(text, float, "number")


def _number(text: str, parse: Callable[[str], float], kind: str) -> float:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no {kind}") from error


def check_folder(folder: Path, option: str = "--out") -> None:
    """Check that files can be written into a folder, which need not exist yet. Creates nothing.

    Args:
        folder: where the files would go.
        option: the option that named it, for the message.

    Raises:
        InputError: if they cannot.
    """
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
    except (OSError, StopIteration) as error:
        raise InputError(
            f"{option} {str(folder)!r} cannot be used: {error}; choose another folder"
        ) from error
    if not nearest.is_dir():
        reason = "is a file" if nearest == folder else f"cannot be made, since {str(nearest)!r} is a file"
        raise InputError(f"{option} {str(folder)!r} {reason}; choose a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(
            f"{option} {str(folder)!r} cannot be written: no permission for {str(nearest)!r}; "
            "choose another folder"
        )


def check_file(path: Path) -> None:
    """Check that the file of --out can be written. Creates nothing.

    Raises:
        InputError: if it cannot.
    """
    if path.is_dir():
        raise InputError(f"--out {str(path)!r} is a folder; name the file to write")
    check_folder(path.parent)
