"""Run an experiment that the paper names, on the embedded model; see `steerclear_lab.bench.experiments`.

    python -m steerclear_lab.bench.experiments triggers --processes 2 --out docs/benchmarks
    python -m steerclear_lab.bench.experiments page --out docs/benchmarks

The second writes the pages of all experiments again, from the documents that lie there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from steerclear_lab.bench.experiments import EXPERIMENTS
from steerclear_lab.bench.experiments.common import Options
from steerclear_lab.bench.experiments.report import run, write_pages


def main(words: list[str] | None = None) -> None:
    """Run an experiment, or write the pages again."""
    parser = argparse.ArgumentParser(
        prog="python -m steerclear_lab.bench.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=(*EXPERIMENTS, "page"))
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    for name in ("--seed", "--steps", "--processes", "--prompts", "--seeds"):
        parser.add_argument(name, type=int)
    parser.add_argument("--rows", type=Path, help="a finished comparison: its folder, or its rivals.json")
    parser.add_argument("--quick", action="store_true")
    arguments = vars(parser.parse_args(words))
    name = arguments.pop("name")
    if name == "page":
        write_pages(arguments["out"])
        return
    run(name, Options(**{key: value for key, value in arguments.items() if value is not None}))


if __name__ == "__main__":
    main()
