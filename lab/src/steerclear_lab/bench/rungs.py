"""Each strategy alone on the planted prompts, with the embedded list of alternatives.

    python -m steerclear_lab.bench.rungs --out docs/benchmarks

writes `rungs.json` (every request with its seed), `rungs.md` (the table, and the ladder that it alone gives)
and `rungs.png` (a row per prompt: protected, then one column per strategy).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from PIL import Image

from steerclear.nudge.ladder import strategies
from steerclear.nudge.space import LATENT
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import limit_threads, strategy_options, strategy_parser
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.sampling import GUIDANCE, STEPS
from steerclear_lab.bench.sheets import column_legend, strategy_sheet
from steerclear_lab.bench.strategy_figures import figures, figures_table, group_by_label, value
from steerclear_lab.bench.trials import Trial, attempt, trials
from steerclear_lab.bench.workers import spread
from steerclear_lab.pages import render
from steerclear_lab.strategies import STRATEGIES

LEAST = 0.5  # of the flagged requests that a rung must settle alone
RUNGS = 5  # different strategies before the best has its second turn
ALIKE = 0.5  # of the requests that two settle with the very same picture: the second adds nothing
UPPER = 2  # where a figure's upper bound stands beside it
LAST_RESORT = ("resample",) * 3
COLUMNS = {
    "flagged": "flagged",
    "passed": "passes",
    "served": "served",
    "same_picture": "same picture",
    "concept_top5": "concept top-5",
    "concept": "concept",
    "alignment": "alignment with the prompt",
    "style": "style kept",
    "rung_nfe": "NFE, × plain",
    "overhead": "overhead",
    "seconds": "seconds",
}


def ladder(summary: Mapping[str, Row], rows: Sequence[Row]) -> tuple[str, ...]:
    """The ladder that this measurement alone supports; the page states the rules.

    Args:
        summary: figures by strategy, in the order in which strategies are listed.
        rows: of all trials.

    Returns:
        Names of strategies, in order.
    """
    candidates = [
        name
        for name, strategy_figures in summary.items()
        if name not in LAST_RESORT and value(strategy_figures, "passed") >= LEAST and needs_no_encoder(name)
    ]
    best_served: dict[int, float] = {}
    for name in candidates:
        cost = round(summary[name]["rung_nfe"])
        best_served[cost] = max(best_served.get(cost, 0.0), value(summary[name], "served"))

    def rank(name: str) -> tuple[int, bool, float, float, int]:
        cost = round(summary[name]["rung_nfe"])
        return (
            cost,
            value(summary[name], "served", UPPER) < best_served[cost],
            -round(value(summary[name], "concept"), 2),
            summary[name]["rung_nfe"],
            list(summary).index(name),  # of those that do the same, the plainest is listed first
        )

    chosen: list[str] = []
    for name in sorted(candidates, key=rank):
        if not any(make_same_pictures(rows, name, other) for other in chosen):
            chosen.append(name)
    return (*chosen[:RUNGS], *chosen[:1], *LAST_RESORT)


def needs_no_encoder(name: str) -> bool:
    """Whether every guard can use a strategy."""
    return name not in STRATEGIES or getattr(strategies([name])[0], "space", LATENT) == LATENT


def make_same_pictures(rows: Sequence[Row], name: str, other: str) -> bool:
    """Whether two strategies gave the same picture in at least ALIKE of the requests that both settled."""
    pictures: dict[str, dict[tuple[str, int], str]] = {name: {}, other: {}}
    for row in rows:
        if row["label"] in pictures and row["outcome"] == "steered":
            pictures[row["label"]][row["prompt"], row["seed"]] = row["sha256"]
    both = pictures[name].keys() & pictures[other].keys()
    return bool(both) and sum(pictures[name][k] == pictures[other][k] for k in both) >= ALIKE * len(both)


def page(document: Row) -> str:
    """The Markdown page of a document."""
    return render(
        "rungs.md.j2",
        {
            "remark": remark(document["environment"]),
            "command": document["command"],
            "plan": document["plan"],
            "steps": STEPS,
            "guidance": GUIDANCE,
            "figures": figures_table(document["summary"], COLUMNS, "strategy"),
            "least": LEAST,
            "rungs": RUNGS,
            "ladder": document["ladder"],
            "legend": column_legend(document["summary"]),
        },
    )


def main() -> None:
    limit_threads()
    parser = strategy_parser(__doc__)
    parser.add_argument("--only", nargs="*", default=list(STRATEGIES), metavar="STRATEGY")
    args = parser.parse_args()
    kinds = [Trial(name, strategy) for name, strategy in zip(args.only, strategies(args.only), strict=True)]
    results = spread(
        attempt, jobs=trials(kinds, args.seeds, args.prompts), processes=args.processes, description="rungs"
    )
    rows = [row for row, _ in results]
    options = strategy_options(args)
    if args.only != list(STRATEGIES):
        options += ["--only", *args.only]
    summary = {name: figures(group) for name, group in group_by_label(rows).items()}
    document = {
        "command": shlex.join(["python", "-m", "steerclear_lab.bench.rungs", *options]),
        "environment": environment(),
        "plan": {"prompts": args.prompts, "seeds": args.seeds},
        "ladder": ladder(summary, rows),
        "summary": summary,
        "rows": rows,
    }
    documents.write(args.out, name="rungs", document=document, page=page(document))
    first_seed: dict[tuple[str, str], Image.Image | None] = {}
    for row, picture in results:
        first_seed.setdefault((row["prompt"], row["label"]), picture)
    strategy_sheet(first_seed, args.only, args.out / "rungs.png")
    print(page(document))


if __name__ == "__main__":
    main()
