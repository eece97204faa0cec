"""Batches under test: their command lines, and what they leave."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from PIL import Image
from serve_doubles import COPIED, GUIDANCE, ORDINARY, ROOT, STEPS

from steerclear.cli.batch import batch
from steerclear.cli.batch.outputs import Outputs

COMMAND = "import typer; from steerclear.cli.batch import batch; typer.run(batch)"
ROWS = [
    (COPIED, 0),
    (ORDINARY, 3),
    (COPIED, 1),
    (ORDINARY, 0),
    (COPIED, 0),
]  # the first is a protected picture


def write_rows(file: Path, rows: list[tuple[str, int]]) -> Path:
    """A parquet file of prompts and seeds."""
    prompts, seeds = zip(*rows, strict=True)
    pq.write_table(pa.table({"prompt": prompts, "seed": seeds, "category": ["a"] * len(rows)}), file)
    return file


def options(assets: Path, ladder: str = "resample") -> list[str]:
    """Of every batch."""
    words = ("--model", assets / "model", "--library", assets / "library", "--ladder", ladder)
    return [*map(str, words), "--steps", str(STEPS), "--guidance", str(GUIDANCE)]


def run(*words: object) -> int:
    """Run `steerclear batch WORDS…` in this process."""
    holder = typer.Typer(add_completion=False)
    holder.command("batch")(batch)
    try:
        typer.main.get_command(holder).main([str(word) for word in words], standalone_mode=True)
    except SystemExit as ending:
        return int(ending.code or 0)
    raise AssertionError("typer ends every command")


def start(log: Path, *words: object) -> subprocess.Popen[bytes]:
    """Run it in a process of its own."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stdout=stream,
            stderr=stream,
        )


def results(out: str) -> list[dict[str, Any]]:
    """All results, by row."""
    outputs = Outputs.open(out)
    tables = [outputs.read(f"results/{name}") for name in outputs.names("results")]
    rows = [row for table in tables for row in pq.read_table(pa.BufferReader(table)).to_pylist()]
    return sorted(rows, key=lambda row: row["row"])


def pictures(out: str) -> dict[int, bytes]:
    """The pixels of every picture that a result names, by row."""
    outputs = Outputs.open(out)
    produced = {}
    for row in results(out):
        if row["picture"] is not None:
            assert row["picture"] == outputs.address(f"pictures/{row['row']:08d}.png")
            contents = outputs.read(f"pictures/{row['row']:08d}.png")
            assert contents is not None, row
            with Image.open(io.BytesIO(contents)) as picture:
                assert json.loads(picture.text["steerclear"])["seed"] == row["seed"]
                produced[row["row"]] = picture.tobytes()
    return produced
