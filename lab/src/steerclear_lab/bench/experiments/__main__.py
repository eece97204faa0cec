"""One of the experiments that the paper names, on the embedded model; see `steerclear_lab.bench.experiments`.

    python -m steerclear_lab.bench.experiments triggers --processes 2 --out docs/benchmarks
    python -m steerclear_lab.bench.experiments page --out docs/benchmarks

The second writes the page of all sections again, from the documents that lie there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from steerclear_lab.bench.experiments import EXPERIMENTS
from steerclear_lab.bench.experiments.common import Options
from steerclear_lab.bench.experiments.report import PAGE, page, run


def main(words: list[str] | None = None) -> None:
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
    given = vars(parser.parse_args(words))
    name = given.pop("name")
    if name == "page":
        (given["out"] / PAGE).write_text(page(given["out"]))
        return
    run(name, Options(**{key: value for key, value in given.items() if value is not None}))


if __name__ == "__main__":
    main()
