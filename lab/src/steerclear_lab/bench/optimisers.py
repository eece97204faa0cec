"""How should J be minimised? Optimisers, rates per latent norm, iterations, and ending as soon as the filters pass the latent.

    python -m steerclear_lab.bench.optimisers --out docs/benchmarks

writes `optimisers.json` (every request with its seed) and `optimisers.md` (the tables).
"""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Sequence
from typing import Any

from steerclear.nudge.condition import ConditionNudge
from steerclear.nudge.final_latent import LOOK, FinalLatent
from steerclear.nudge.objective import OPTIMISERS
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.main_job import GUIDANCE, STEPS
from steerclear_lab.bench.pool import spread
from steerclear_lab.bench.trials import (
    PLAIN,
    Row,
    Trial,
    arguments,
    attempt,
    by_label,
    figures,
    options,
    table,
    trials,
)

RATES, ITERATIONS = (0.02, 0.05, 0.2), (10, 120)
COLUMNS = {
    "passed": "passed", "served": "served", "concept": "concept", "alignment": "alignment with the prompt", "J": "J",
    "iterations": "iterations", "halved": "halved steps", "flat": "flat", "enough": "enough", "not_finite": "not finite",
    "rung_nfe": "NFE, × plain", "seconds_ratio": "seconds, × plain",
}  # fmt: skip


def kinds() -> dict[str, list[Trial]]:
    """By table: every optimiser at every rate, and at the default rate with few and with many iterations; a descent on a
    latent also with an early end."""
    found: dict[str, list[Trial]] = {}
    for table_name, strategy in (
        ("final latent and condition", FinalLatent),
        ("condition alone", ConditionNudge),
    ):
        default: Any = strategy()
        tried: list[Any] = [strategy(optimiser=o, rate=r) for o in OPTIMISERS for r in RATES]
        tried += [strategy(optimiser=o, iterations=i) for o in OPTIMISERS for i in ITERATIONS]
        if strategy is FinalLatent:
            tried += [FinalLatent(optimiser=o, rate=r, stop=True) for o in OPTIMISERS for r in RATES[:2]]
        tried = [default, *(one for one in tried if one != default)]
        found[table_name] = [
            Trial(f"{table_name}: {said(one)}{' (default)' if one == default else ''}", one) for one in tried
        ]
    return found


def said(strategy: Any) -> str:
    """A strategy's optimiser in words."""
    ending = ", until it passes" if getattr(strategy, "stop", False) else ""
    return f"{strategy.optimiser}, rate {strategy.rate:g}, {strategy.iterations} iterations{ending}"


def summarised(tables: dict[str, list[Trial]], rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Figures by table and setting, with what the descents did."""
    grouped = by_label(rows)
    plain = statistics.median(r["seconds"] for r in grouped[PLAIN])
    return {
        name: {t.label.removeprefix(f"{name}: "): descents(grouped[t.label], plain) for t in some}
        for name, some in tables.items()
    }


def descents(rows: Sequence[Row], plain_seconds: float) -> Row:
    """`figures`, medians over requests of iterations, halved steps and J where it ended, and how many descents ended how."""
    found, mine = figures(rows), [r for r in rows if r["outcome"] != "clear"]
    ended = [why for r in mine for why in r["ended"]]
    values = [v for r in mine for v in r["J"] if v is not None]
    return found | {
        "J": round(statistics.median(values), 4) if values else None,
        **{key: statistics.median(r[key] for r in mine) if mine else None for key in ("iterations", "halved")},
        **{why.replace(" ", "_"): ended.count(why) for why in ("flat", "enough", "not finite")},
        "seconds_ratio": round(found["seconds"] / plain_seconds, 3) if mine else None,
    }  # fmt: skip


def supported(found: dict[str, Row]) -> tuple[str, str]:
    """(the setting that serves most, in one sentence what the figures support).

    The default stands unless another serves so many more that its interval lies above the default's share; of others that
    serve alike, the one of fewer seconds.
    """
    (default,) = (name for name in found if name.endswith("(default)"))
    share = {name: (f["served"] or [0.0, 0.0, 0.0]) for name, f in found.items()}
    best = min(found, key=lambda n: (-share[n][0], n != default, found[n]["seconds"] or 0.0))
    if best == default:
        return best, f"The default serves most, {share[best][0]:.2f}."
    clearly = share[best][1] > share[default][0]
    verdict = (
        "it should become the default"
        if clearly
        else "its interval holds the default's share, so the default stands"
    )
    return best, (
        f"“{best}” serves most, {share[best][0]:.2f} against the default's {share[default][0]:.2f}: {verdict}."
    )  # fmt: skip


def page(document: Row) -> str:
    """The Markdown page."""
    plan = document["plan"]
    lines = [
        "# How J is minimised", "", f"Made by `{document['command']}`.", "", *remark(document["environment"]),
        f"{plan['prompts']} planted prompts, {plan['seeds']} seed(s) each, {STEPS} steps, guidance {GUIDANCE}; each setting is the only",
        "rung of the ladder. The rate is the length of a step as a share of the latent's. *Descent* goes along the normalised",
        "gradient, *adam* along Adam's direction. Both halve a step while J would rise (*halved steps*: how often, per request), keep",
        "the latent's length, and end where a value is not finite. *J*: its median where the descents ended; *flat*: descents that",
        "found no step lower any more; *enough*: that ended since the filters passed what the latent shows, looked at after every",
        f"{LOOK} iterations.", "*Served*: of the mascots' requests, those that ended with a picture of their concept that is no copy,",
        "both by the CLIP. Brackets: 95 % bootstrap intervals over prompts.", "",
    ]  # fmt: skip
    for name, rows in document["summary"].items():
        lines += [f"## {name[0].upper()}{name[1:]}", "", *table(rows, COLUMNS, "optimiser"), ""]
        lines += [supported(rows)[1], ""]
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__)
    args = parser.parse_args()
    tables = kinds()
    run = [Trial(PLAIN, None), *(t for some in tables.values() for t in some)]
    made = spread(attempt, trials(run, args.seeds, args.prompts), args.processes, "optimisers")
    rows = [row for row, _ in made]
    words = options(args)
    document = {
        "command": shlex.join(["python", "-m", "steerclear_lab.bench.optimisers", *words]), "environment": environment(),
        "plan": {"prompts": args.prompts, "seeds": args.seeds}, "summary": summarised(tables, rows), "rows": rows,
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "optimisers.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "optimisers.md").write_text(page(document))
    print(page(document))


if __name__ == "__main__":
    main()
