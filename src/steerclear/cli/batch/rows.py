"""The rows of a batch: a prompt and a seed each, from a text file, JSON lines or parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from steerclear.cli.inputs import LARGEST_SEED, check_prompt, read_prompts
from steerclear.cli.recipe import PromptAndSeed
from steerclear.errors import InputError
from steerclear.library.files import read_text

KINDS = (".txt", ".jsonl", ".parquet")


def read_rows(file: Path, seed: int) -> list[PromptAndSeed]:
    """Read a list of prompts.

    Args:
        file: one of KINDS. Columns and keys other than `prompt` and `seed` are left alone.
        seed: of rows that name none.

    Raises:
        InputError: that names the row, its value and what it takes.
    """
    kind = file.suffix.lower()
    if kind == ".txt":
        return [PromptAndSeed(prompt, seed) for prompt in read_prompts((), file)]
    if kind not in KINDS:
        raise InputError(f"{str(file)!r} is none of {', '.join(KINDS)}, by which lists of prompts are told")
    try:
        values = _of_json(file) if kind == ".jsonl" else _of_parquet(file)
        rows = [_row(value, origin, seed) for origin, value in values]
    except OSError as error:
        raise InputError(f"cannot read the prompts {str(file)!r}: {error.strerror or error}") from error
    if not rows:
        raise InputError(f"there is no row in {str(file)!r}; give at least one, with a `prompt`")
    return rows


def _of_json(file: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(read_text(file, "prompts").splitlines(), start=1):
        if line.strip():
            origin = f"line {number} of {str(file)!r}"
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{origin} is no JSON: {error}") from error
            yield origin, value


def _of_parquet(file: Path) -> Iterable[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file)
        names = opened.schema_arrow.names
        if "prompt" not in names:
            raise InputError(
                f"{str(file)!r} has the columns {', '.join(names)}, and no `prompt`; name one so"
            )
        table = opened.read(columns=[name for name in ("prompt", "seed") if name in names])
    except pa.ArrowException as error:
        raise InputError(f"cannot read {str(file)!r} as parquet: {str(error).splitlines()[0]}") from error
    return ((f"row {number} of {str(file)!r}", value) for number, value in enumerate(table.to_pylist()))


def _row(value: Any, origin: str, seed: int) -> PromptAndSeed:
    if not isinstance(value, dict):
        raise InputError(f'{origin} is {value!r}; give an object such as {{"prompt": "a fox", "seed": 7}}')
    prompt, own_seed = value.get("prompt"), value.get("seed")
    if not isinstance(prompt, str):
        raise InputError(f"the prompt of {origin} is {prompt!r}; give a text")
    check_prompt(prompt, f"the prompt of {origin}")
    if own_seed is None:
        own_seed = seed
    if not isinstance(own_seed, int) or isinstance(own_seed, bool) or not 0 <= own_seed <= LARGEST_SEED:
        raise InputError(f"the seed of {origin} is {own_seed!r}; give a whole number, 0 to {LARGEST_SEED}")
    return PromptAndSeed(prompt, own_seed)
