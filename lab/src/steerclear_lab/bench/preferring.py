"""How should the pull target be chosen automatically? Compares ways of choosing D, and what pull, push and
staying near buy.

    python -m steerclear_lab.bench.preferring --out docs/benchmarks

writes `preferring.json` (every request with its seed), `preferring.md` (the tables) and `preferring.png` (a
row per prompt).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from steerclear.nudge.base import Strategy
from steerclear.nudge.condition import ConditionNudge
from steerclear.nudge.final_latent import FinalLatent
from steerclear_lab.bench import documents
from steerclear_lab.bench.command_line import limit_threads, strategy_options, strategy_parser
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.sampling import GUIDANCE, STEPS
from steerclear_lab.bench.sheets import column_legend, strategy_sheet
from steerclear_lab.bench.strategy_figures import figures, figures_table, group_by_label, value
from steerclear_lab.bench.trials import PLAIN, Trial, attempt, guard_and_judge, trials
from steerclear_lab.bench.workers import spread
from steerclear_lab.emoji.concepts import CONCEPTS
from steerclear_lab.pages import render

AUTOMATIC = "nearest alternative to the prompt (default)"
USER_TEXTS = tuple(f"a {name}, flat style" for name in CONCEPTS.values())
HOLDS = (0.2, 0.3, 0.5, 0.7)  # γ of a condition, beside the default
LATENT, CONDITION = "final latent and condition", "condition alone"
PULLS, ABLATION = "what pulls, ", "ablation, "
COLUMNS = {
    "flagged": "flagged",
    "passed": "passed",
    "served": "served",
    "concept_top5": "concept top-5",
    "concept": "concept",
    "alignment": "alignment with the prompt",
    "bystander": "by the bystander",
    "style": "style kept",
    "same_picture": "same picture",
    "rung_nfe": "NFE, × plain",
    "seconds": "seconds",
}


def pull_targets(strategy: Strategy, without_pull: Strategy, pictures: bool) -> list[Trial]:
    """A trial per way of choosing the pull target.

    Args:
        strategy: what is pulled.
        without_pull: the same with α = 0.
        pictures: whether it can be pulled by pictures as well.
    """
    by_texts = [
        Trial("nothing (α = 0)", without_pull),
        Trial(AUTOMATIC, strategy),
        Trial("the despecified prompt", strategy, prefer="despecified"),
        Trial("nearest alternative to the despecified prompt", strategy, prefer="neighbours"),
        Trial("user's texts: every concept in flat style", strategy, texts=USER_TEXTS),
    ]
    if not pictures:
        return by_texts
    # label, prefer, prefix of the ordinary pictures that are preferred
    by_pictures = (
        ("guard's own clear samples of the despecified prompt", "samples", None),
        ("style folder (flat), nearest to the despecified prompt", "despecified", "flat-"),
        ("all ordinary pictures, nearest to the despecified prompt", "despecified", ""),
        ("all ordinary pictures, nearest to the flagged picture", "lookalikes", ""),
    )
    return by_texts + [
        Trial(label, strategy, prefer=prefer, picture_prefix=prefix) for label, prefer, prefix in by_pictures
    ]


def ablation(strategy: Any) -> list[Trial]:
    """Trials with the same D, and one term of J off at a time."""
    kind = type(strategy)
    held = [Trial(f"stay at γ = {g}", kind(gamma=g)) for g in HOLDS] if kind is ConditionNudge else []
    return [
        Trial("pull, push and stay", strategy),
        Trial("pull off (α = 0)", kind(alpha=0.0)),
        Trial("push off (β = 0)", kind(beta=0.0)),
        Trial("push halved (β = 0.5)", kind(beta=0.5)),
        Trial("stay off (γ = 0)", kind(gamma=0.0)),
        *held,
    ]


def kinds() -> dict[str, list[Trial]]:
    """The trials of each table. A label begins with its table, since both strategies try the same ways."""
    tables = {
        f"{PULLS}{LATENT}": pull_targets(FinalLatent(), FinalLatent(alpha=0.0), pictures=True),
        f"{PULLS}{CONDITION}": pull_targets(ConditionNudge(), ConditionNudge(alpha=0.0), pictures=False),
        f"{ABLATION}{LATENT}": ablation(FinalLatent()),
        f"{ABLATION}{CONDITION}": ablation(ConditionNudge()),
    }
    return {
        name: [replace(trial, label=f"{name}: {trial.label}") for trial in table_trials]
        for name, table_trials in tables.items()
    }


def once(tables: dict[str, list[Trial]]) -> list[Trial]:
    """What is run: a trial that stands in two tables once, under its first label."""
    distinct: dict[tuple[Any, ...], Trial] = {}
    for trial in (t for table_trials in tables.values() for t in table_trials):
        distinct.setdefault(_settings(trial), trial)
    return [Trial(PLAIN, None), *distinct.values()]


def summarised(tables: dict[str, list[Trial]], rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Figures by table and way; the plain pipeline heads the first table."""
    labels = {_settings(t): t.label for t in once(tables)}
    groups = group_by_label(rows)
    summary = {
        name: {t.label.removeprefix(f"{name}: "): figures(groups[labels[_settings(t)]]) for t in table_trials}
        for name, table_trials in tables.items()
    }
    first = next(iter(summary))
    summary[first] = {PLAIN: figures(groups[PLAIN]), **summary[first]}
    return summary


def supported(summary: dict[str, dict[str, Row]]) -> str:
    """Which automatic way the figures support as the default, in one paragraph."""
    lines = []
    for name in list(summary)[:2]:
        # a user's wish is no default, and neither is the plain pipeline
        automatic = {
            choice: choice_figures
            for choice, choice_figures in summary[name].items()
            if choice != PLAIN and not choice.startswith(("user", "style"))
        }
        best = max(automatic, key=lambda choice: (value(automatic[choice], "served"), choice == AUTOMATIC))
        lines.append(
            f"*{name.removeprefix(PULLS).capitalize()}*: the most requests are served by "
            f"“{best}”, {value(automatic[best], 'served'):.2f}; "
            f"by the default {value(automatic[AUTOMATIC], 'served'):.2f}."
        )
    return "\n".join(lines)


def page(document: Row) -> str:
    """The Markdown page of a document."""
    summary = document["summary"]
    parts = [
        {
            "title": name[0].upper() + name[1:],
            "figures": figures_table(by_way, COLUMNS, "D" if name.startswith(PULLS) else "J"),
            "verdict": supported(summary) if name == f"{PULLS}{CONDITION}" else "",
        }
        for name, by_way in summary.items()
    ]
    return render(
        "preferring.md.j2",
        {
            "remark": remark(document["environment"]),
            "command": document["command"],
            "plan": document["plan"],
            "steps": STEPS,
            "guidance": GUIDANCE,
            "style_accuracy": document["style_accuracy"],
            "parts": parts,
            "legend": column_legend(summary[f"{PULLS}{LATENT}"]),
            "legend_of": LATENT,
        },
    )


def main() -> None:
    limit_threads()
    args = strategy_parser(__doc__).parse_args()
    tables = kinds()
    results = spread(
        attempt,
        jobs=trials(once(tables), args.seeds, args.prompts),
        processes=args.processes,
        description="preferring",
    )
    rows = [row for row, _ in results]
    _, judge = guard_and_judge()
    document = {
        "command": shlex.join(["python", "-m", "steerclear_lab.bench.preferring", *strategy_options(args)]),
        "environment": environment(),
        "plan": {"prompts": args.prompts, "seeds": args.seeds},
        "style_accuracy": round(judge.style_accuracy(), 4),
        "summary": summarised(tables, rows),
        "rows": rows,
    }
    documents.write(args.out, name="preferring", document=document, page=page(document))
    labels = [PLAIN, *(t.label for t in next(iter(tables.values())))]
    first_seed: dict[tuple[str, str], Image.Image | None] = {}
    for row, picture in results:
        first_seed.setdefault((row["prompt"], row["label"]), picture)
    strategy_sheet(first_seed, labels, args.out / "preferring.png")
    print(page(document))


def _settings(trial: Trial) -> tuple[Any, ...]:
    return trial.strategy, trial.prefer, trial.texts, trial.picture_prefix


if __name__ == "__main__":
    main()
