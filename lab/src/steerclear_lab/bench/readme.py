"""The README's table of results, from the document of the main job.

    python -m steerclear_lab.bench.readme

writes it into README.md, between the two comments that mark its place.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from steerclear_lab import pages
from steerclear_lab.bench import documents
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.intervals import exact_interval, interval
from steerclear_lab.emoji.concepts import CONCEPTS

BEGIN, END = "<!-- main-job:begin -->", "<!-- main-job:end -->"
Measure = Callable[[Row], Any]


def block(document: Row) -> str:
    """What stands between the marks: the table, and a sentence on its intervals.

    Args:
        document: of the main job, with its rows.
    """
    prompts = len({row["prompt"] for row in document["planted"]})
    return pages.render(
        "readme-results.md.j2",
        {
            "results": pages.table(["what", "result", "95 % interval"], rows(document)),
            "prompts": prompts,
            "bound": exact_interval(0, prompts)[1],
        },
    )


def rows(document: Row) -> list[list[str]]:
    """The cells of the table: what was measured, the result of how many pictures, and the interval."""
    planted, ordinary = document["planted"], document["ordinary"]
    summary = document["summary"]
    handed_out = [r for r in planted if r["handed_out"]]
    flagged = [r for r in planted if r["outcome"] != "clear"]
    steered = [r for r in handed_out if r["outcome"] == "steered"]
    mascots = [r for r in steered if r["handed_out"]["rank"] is not None]
    names = len(set(CONCEPTS.values()))
    return [
        ["plain model, planted prompts: flagged", *_count(planted, lambda r: r["plain_flagged"])],
        [
            "handed out within pixel L2 0.1 of a protected picture",
            *_count(handed_out, lambda r: r["handed_out"]["pixel_l2"] < 0.1),
        ],
        ["handed out above any filter's threshold", *_count(handed_out, lambda r: r["flagged"])],
        [
            "handed out and taken for a protected picture by a CLIP that no filter uses",
            *_count(
                handed_out,
                lambda r: r["handed_out"]["same_picture"],
                beside=f"plain: {_percent(summary['plain_same_picture_by_clip'])}",
            ),
        ],
        [
            "flagged requests that end without a picture (writer's block)",
            *_count(flagged, lambda r: r["outcome"] == "withheld"),
        ],
        [
            "denoiser evaluations of a flagged request, mean, × plain",
            *_mean(
                flagged,
                lambda r: r["overhead"],
                beside=f"95th percentile: {summary['overhead_p95']:.2f}",
            ),
        ],
        [
            f"steered pictures of mascots with the right concept among the CLIP's top 5 of {names}",
            *_share(
                mascots,
                lambda r: r["handed_out"]["rank"] < 5,
                beside=f"plain: {_percent(summary['concept_top5_plain'])}",
            ),
        ],
        [
            "cosine of steered picture and prompt by a CLIP that has seen no protected picture, mean",
            *_mean(
                steered,
                lambda r: r["handed_out"]["bystander"],
                beside=f"plain: {summary['bystander_alignment_plain']:.2f}",
            ),
        ],
        [
            "ordinary prompts: bit-identical to the plain pipeline",
            *_count(ordinary, lambda r: r["identical"]),
        ],
        ["ordinary prompts: wall time, median, × plain", *_median(ordinary, lambda r: r["wall"])],
    ]


def updated(readme: str, document: Row) -> str:
    """The README with the present block between the marks.

    Raises:
        ValueError: one of the marks is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the README lacks {BEGIN} or {END}; put both where the table of results belongs")
    return f"{before}{begin}\n{block(document)}{end}{after}"


def _count(measured: list[Row], outcome: Measure, beside: str = "") -> list[str]:
    """How many pictures an outcome is true of, and its interval. beside: another figure to compare with."""
    hits = sum(bool(outcome(row)) for row in measured)
    return [f"{hits} of {_size(measured, beside)}", _share_interval(measured, outcome)]


def _share(measured: list[Row], outcome: Measure, beside: str = "") -> list[str]:
    """The share of pictures that an outcome is true of, and its interval."""
    hits = sum(bool(outcome(row)) for row in measured)
    return [
        f"{_percent(hits / len(measured))} of {_size(measured, beside)}",
        _share_interval(measured, outcome),
    ]


def _mean(measured: list[Row], measure: Measure, beside: str = "") -> list[str]:
    """The mean of a measure, and its interval."""
    mean = statistics.fmean(measure(row) for row in measured)
    bounds = interval(_by_prompt(measured, measure))
    return [f"{mean:.2f} over {_size(measured, beside)}", _range(bounds)]


def _median(measured: list[Row], measure: Measure) -> list[str]:
    """The median of a measure, and its interval."""
    median = statistics.median(measure(row) for row in measured)
    bounds = interval(_by_prompt(measured, measure), statistic=np.median)
    return [f"{median:.2f} over {_size(measured)}", _range(bounds)]


def _range(bounds: tuple[float, float] | None) -> str:
    return "–" if bounds is None else f"{bounds[0]:.2f}–{bounds[1]:.2f}"


def _share_interval(measured: list[Row], outcome: Measure) -> str:
    """The interval of a share: exact where all pictures of a prompt agree."""
    groups = list(_by_prompt(measured, outcome).values())
    if all(len(set(group)) == 1 for group in groups):
        bounds = exact_interval(sum(group[0] == 1 for group in groups), len(groups))
    else:
        bootstrap = interval({str(i): group for i, group in enumerate(groups)}, share=True)
        assert bootstrap is not None
        bounds = bootstrap
    low, high = (f"{100 * bound:.0f}" for bound in bounds)
    return f"{low}–{high} %"


def _by_prompt(measured: Iterable[Row], measure: Measure) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for row in measured:
        groups[row["prompt"]].append(float(measure(row)))
    return groups


def _size(measured: list[Row], beside: str = "") -> str:
    prompts = len({row["prompt"] for row in measured})
    return f"{len(measured)} pictures, {prompts} prompts" + (f" ({beside})" if beside else "")


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--document", type=Path, default=Path("docs/benchmarks/main-job.json"))
    args = parser.parse_args()
    args.readme.write_text(updated(args.readme.read_text(), documents.read(args.document)))


if __name__ == "__main__":
    main()
