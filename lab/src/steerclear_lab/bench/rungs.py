"""Each strategy alone on the planted prompts: what decides the ladder's order.

    python -m steerclear_lab.bench.rungs --out docs/benchmarks

writes `rungs.json` (every request with its seed), `rungs.md` (the table, and the ladder that follows) and `rungs.png` (a row
per prompt: protected, then one column per strategy).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from PIL import Image

from steerclear.nudge.ladder import DEFAULT_LADDER, strategies
from steerclear.nudge.space import LATENT
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.main_job import GUIDANCE, STEPS
from steerclear_lab.bench.pool import spread
from steerclear_lab.bench.trials import (
    Row,
    Trial,
    arguments,
    attempt,
    by_label,
    figures,
    numbered,
    options,
    sheet,
    table,
    trials,
)
from steerclear_lab.strategies import STRATEGIES

LEAST = 0.5  # of the flagged requests that a rung must settle alone
RUNGS = 5  # different strategies before the best has its second turn
ALIKE = 0.5  # of the requests that two settle with the very same picture: the second adds nothing
UPPER = 2  # where a figure's upper bound stands beside it
LAST_RESORT = ("resample",) * 3
COLUMNS = {
    "flagged": "flagged", "passed": "passes", "served": "served", "same_picture": "same picture", "concept_top5": "concept top-5",
    "concept": "concept", "alignment": "alignment with the prompt", "style": "style kept", "rung_nfe": "NFE, × plain",
    "overhead": "overhead", "seconds": "seconds",
}  # fmt: skip


def ladder(found: Mapping[str, Row], rows: Sequence[Row]) -> tuple[str, ...]:
    """The default ladder, from `summary` and `rows` of rungs.json.

    Of the strategies that alone settle at least LEAST of the flagged requests, the cheapest first, by whole plain generations;
    of those that cost alike, first the ones that serve alike: whose interval holds the best one's share, so that this sample does
    not tell them apart. Among these, and among the others, the one nearer to the concept, to a hundredth, then the cheaper. One
    that makes the very pictures of one before it is left out, and so is one that needs an encoder, which not every guard has.
    After RUNGS of them the first has a second turn, with the next text that is preferred, and then comes fresh noise.
    """
    able = [
        n for n, f in found.items() if n not in LAST_RESORT and _value(f, "passed") >= LEAST and anywhere(n)
    ]
    best: dict[int, float] = {}
    for name in able:
        cost = round(found[name]["rung_nfe"])
        best[cost] = max(best.get(cost, 0.0), _value(found[name], "served"))
    able.sort(
        key=lambda n: (
            round(found[n]["rung_nfe"]),
            _value(found[n], "served", UPPER) < best[round(found[n]["rung_nfe"])],
            -round(_value(found[n], "concept"), 2),
            found[n]["rung_nfe"],
            list(found).index(n),  # the plainest of those that do the same: strategies are listed so
        )
    )
    chosen: list[str] = []
    for name in able:
        if not any(alike(rows, name, other) for other in chosen):
            chosen.append(name)
    return (*chosen[:RUNGS], *chosen[:1], *LAST_RESORT)


def anywhere(name: str) -> bool:
    """Whether a strategy needs nothing that a guard may lack."""
    return name not in STRATEGIES or getattr(strategies([name])[0], "space", LATENT) == LATENT


def alike(rows: Sequence[Row], one: str, other: str) -> bool:
    """Whether two strategies gave the very same picture in at least ALIKE of the requests that both settled."""
    pictures: dict[str, dict[tuple[str, int], str]] = {one: {}, other: {}}
    for row in rows:
        if row["label"] in pictures and row["outcome"] == "steered":
            pictures[row["label"]][row["prompt"], row["seed"]] = row["sha256"]
    both = pictures[one].keys() & pictures[other].keys()
    return bool(both) and sum(pictures[one][k] == pictures[other][k] for k in both) >= ALIKE * len(both)


def page(document: Row) -> str:
    """The Markdown page."""
    plan, found = document["plan"], document["summary"]
    return "\n".join([
        "# Each strategy alone", "", f"Made by `{document['command']}`.", "", *remark(document["environment"]),
        f"{plan['prompts']} planted prompts, {plan['seeds']} seed(s) each, {STEPS} steps, guidance {GUIDANCE}; each strategy is the only",
        "rung. *Passes*: the share of the flagged requests that it settles. *Served*: of the mascots' requests, those that ended with a",
        "picture of their concept (within the CLIP's top 5 of all names) which the CLIP does not take for a protected one. The other",
        "judgements are of the pictures that passed. *NFE*: what the rung cost, in plain generations; *overhead*: with the first",
        "pass, which the early verdict cuts short. Brackets: 95 % bootstrap intervals over prompts. A name with `encoder` minimises",
        "J in the copy descriptor's space, which is one of the filters' eyes: the pixel filters and the CLIP, which judges here, are",
        "not.", "",
        *table(found, COLUMNS, "strategy"), "",
        "## The default ladder", "",
        f"Of the strategies that alone settle at least {LEAST:.0%}, the cheapest first, by whole plain generations; of those that cost",
        "alike, first the ones whose interval of *served* holds the best one's share, so that this sample does not tell them apart. Among",
        "these, and among the others, the one nearer to the concept (to a hundredth), then the cheaper. One that makes the very pictures",
        "of one before it (in half of the requests that both settle)",
        "is left out, and so is one that needs an encoder, which not every guard has. After "
        f"{RUNGS} of them the first has a second turn, with",
        "the next text that is preferred, and then comes fresh noise:",
        f"{', '.join(f'`{name}`' for name in document['ladder'])}.", "",
        "![What passed, prompt by prompt](rungs.png)", "",
        f"Protected, then: {numbered(found)} (first seed).", "",
    ])  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="*", default=list(STRATEGIES), metavar="STRATEGY")
    args = parser.parse_args()
    kinds = [Trial(name, one) for name, one in zip(args.only, strategies(args.only), strict=True)]
    made = spread(attempt, trials(kinds, args.seeds, args.prompts), args.processes, "rungs")
    rows = [row for row, _ in made]
    words = options(args)
    if args.only != list(STRATEGIES):
        words += ["--only", *args.only]
    summary = {name: figures(some) for name, some in by_label(rows).items()}
    document = {
        "command": shlex.join(["python", "-m", "steerclear_lab.bench.rungs", *words]), "environment": environment(),
        "plan": {"prompts": args.prompts, "seeds": args.seeds}, "ladder": ladder(summary, rows), "summary": summary, "rows": rows,
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rungs.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "rungs.md").write_text(page(document))
    first: dict[tuple[str, str], Image.Image | None] = {}
    for row, picture in made:
        first.setdefault((row["prompt"], row["label"]), picture)
    sheet(first, args.only, args.out / "rungs.png")
    print(page(document))
    if document["ladder"] != DEFAULT_LADDER:
        print(f"This is not the default ladder; for nudge/ladder.py:\nDEFAULT_LADDER = {document['ladder']}")


def _value(found: Row, key: str, which: int = 0) -> float:
    """A figure, or a bound of its interval; 0 where there is none."""
    return float(found[key][which]) if found[key] else 0.0


if __name__ == "__main__":
    main()
