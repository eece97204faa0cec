"""How should J be minimised? Compares optimisers, rates, numbers of iterations, and ending as soon as the
filters pass.

    python -m steerclear_lab.bench.optimisers --out docs/benchmarks

writes `optimisers.json` (every request with its seed) and `optimisers.md` (the tables).
"""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from typing import Any

from steerclear.nudge.condition import ConditionNudge
from steerclear.nudge.final_latent import LOOK, FinalLatent
from steerclear.nudge.objective import OPTIMISERS
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import limit_threads, strategy_options, strategy_parser
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.sampling import GUIDANCE, STEPS
from steerclear_lab.bench.strategy_figures import figures, figures_table, group_by_label
from steerclear_lab.bench.trials import PLAIN, Trial, attempt, trials
from steerclear_lab.bench.workers import spread
from steerclear_lab.pages import render

RATES, ITERATIONS = (0.02, 0.05, 0.2), (10, 120)
COLUMNS = {
    "passed": "passed",
    "served": "served",
    "concept": "concept",
    "alignment": "alignment with the prompt",
    "J": "J",
    "iterations": "iterations",
    "halved": "halved steps",
    "flat": "flat",
    "enough": "enough",
    "not_finite": "not finite",
    "rung_nfe": "NFE, × plain",
    "seconds_ratio": "seconds, × plain",
}


def kinds() -> dict[str, list[Trial]]:
    """The trials of each table.

    Every optimiser at every rate, and at the default rate with few and with many iterations; a descent on a
    latent also with an early end.
    """
    tables: dict[str, list[Trial]] = {}
    for table_name, strategy in (
        ("final latent and condition", FinalLatent),
        ("condition alone", ConditionNudge),
    ):
        default: Any = strategy()
        settings: list[Any] = [strategy(optimiser=o, rate=r) for o in OPTIMISERS for r in RATES]
        settings += [strategy(optimiser=o, iterations=i) for o in OPTIMISERS for i in ITERATIONS]
        if strategy is FinalLatent:
            settings += [FinalLatent(optimiser=o, rate=r, stop=True) for o in OPTIMISERS for r in RATES[:2]]
        settings = [default, *(setting for setting in settings if setting != default)]
        tables[table_name] = [
            Trial(f"{table_name}: {described(s)}{' (default)' if s == default else ''}", s) for s in settings
        ]
    return tables


def described(strategy: Any) -> str:
    """A strategy's optimiser in words."""
    ending = ", until it passes" if getattr(strategy, "stop", False) else ""
    return f"{strategy.optimiser}, rate {strategy.rate:g}, {strategy.iterations} iterations{ending}"


def summarised(tables: dict[str, list[Trial]], rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Figures by table and setting, with what the descents did."""
    groups = group_by_label(rows)
    plain_seconds = statistics.median(r["seconds"] for r in groups[PLAIN])
    return {
        name: {
            t.label.removeprefix(f"{name}: "): descents(groups[t.label], plain_seconds) for t in table_trials
        }
        for name, table_trials in tables.items()
    }


def descents(rows: Sequence[Row], plain_seconds: float) -> Row:
    """The figures of one setting, with what its descents did.

    Args:
        rows: of its trials.
        plain_seconds: median of a plain generation.

    Returns:
        `figures`, medians over requests of iterations, halved steps and the last J, and how many descents
        ended how.
    """
    setting_figures = figures(rows)
    flagged = [r for r in rows if r["outcome"] != "clear"]
    endings = [ending for r in flagged for ending in r["ended"]]
    values = [v for r in flagged for v in r["J"] if v is not None]
    return {
        **setting_figures,
        "J": round(statistics.median(values), 4) if values else None,
        **{
            key: statistics.median(r[key] for r in flagged) if flagged else None
            for key in ("iterations", "halved")
        },
        **{why.replace(" ", "_"): endings.count(why) for why in ("flat", "enough", "not finite")},
        "seconds_ratio": round(setting_figures["seconds"] / plain_seconds, 3) if flagged else None,
    }


def supported(by_setting: dict[str, Row]) -> tuple[str, str]:
    """Which setting the figures support as the default.

    The default stands unless another serves so many more that its interval lies above the default's share; of
    others that serve alike, the faster one counts.

    Args:
        by_setting: figures by setting; the name of the default ends in "(default)".

    Returns:
        The setting that serves most, and a sentence about it.
    """
    (default,) = (name for name in by_setting if name.endswith("(default)"))
    served = {name: (f["served"] or [0.0, 0.0, 0.0]) for name, f in by_setting.items()}
    best = min(by_setting, key=lambda n: (-served[n][0], n != default, by_setting[n]["seconds"] or 0.0))
    if best == default:
        return best, f"The default serves most, {served[best][0]:.2f}."
    clearly = served[best][1] > served[default][0]
    verdict = (
        "it should become the default"
        if clearly
        else "its interval holds the default's share, so the default stands"
    )
    shares = f"{served[best][0]:.2f} against the default's {served[default][0]:.2f}"
    return best, f"“{best}” serves most, {shares}: {verdict}."


def page(document: Row) -> str:
    """The Markdown page of a document."""
    parts = [
        {
            "title": name[0].upper() + name[1:],
            "figures": figures_table(by_setting, COLUMNS, "optimiser"),
            "verdict": supported(by_setting)[1],
        }
        for name, by_setting in document["summary"].items()
    ]
    return render(
        "optimisers.md.j2",
        {
            "remark": remark(document["environment"]),
            "command": document["command"],
            "plan": document["plan"],
            "steps": STEPS,
            "guidance": GUIDANCE,
            "look": LOOK,
            "parts": parts,
        },
    )


def main() -> None:
    limit_threads()
    args = strategy_parser(__doc__).parse_args()
    tables = kinds()
    run = [Trial(PLAIN, None), *(t for table_trials in tables.values() for t in table_trials)]
    results = spread(
        attempt,
        jobs=trials(run, args.seeds, args.prompts),
        processes=args.processes,
        description="optimisers",
    )
    rows = [row for row, _ in results]
    document = {
        "command": shlex.join(["python", "-m", "steerclear_lab.bench.optimisers", *strategy_options(args)]),
        "environment": environment(),
        "plan": {"prompts": args.prompts, "seeds": args.seeds},
        "summary": summarised(tables, rows),
        "rows": rows,
    }
    documents.write(args.out, name="optimisers", document=document, page=page(document))
    print(page(document))


if __name__ == "__main__":
    main()
