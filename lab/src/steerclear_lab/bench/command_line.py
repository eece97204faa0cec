"""The command line of a benchmark."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

OUT = Path("docs/benchmarks")


def benchmark_parser(description: str | None, seeds: int | None = None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes.

    Args:
        description: the benchmark's docstring, shown as it is.
        seeds: the default of `--seeds`; None for a benchmark that has no such option.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the document and its page")
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds, help="pictures per prompt")
    return parser


def limit_threads() -> None:
    """Let torch use two threads, as the committed tables were made, or as many as OMP_NUM_THREADS says."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


def strategy_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser for a benchmark of single strategies on the planted prompts."""
    parser = benchmark_parser(description, seeds=1)
    parser.add_argument(
        "--prompts", type=int, default=24, help="planted prompts, spread evenly over the list"
    )
    parser.add_argument("--processes", type=int, default=1, help="processes, which share the cores")
    return parser


def strategy_options(args: argparse.Namespace) -> list[str]:
    """The options of `strategy_parser` that the figures depend on, as they are typed."""
    names = ("seeds", "prompts", "processes")
    return [word for name in names for word in (f"--{name}", str(getattr(args, name)))]
