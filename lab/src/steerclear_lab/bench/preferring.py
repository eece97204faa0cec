"""What should pull, when nobody says? Ways of choosing D on the planted prompts, and what pull, push and staying near buy.

    python -m steerclear_lab.bench.preferring --out docs/benchmarks

writes `preferring.json` (every request with its seed), `preferring.md` (the tables) and `preferring.png` (a row per prompt).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from PIL import Image

from steerclear.nudge.base import Strategy
from steerclear.nudge.condition import ConditionNudge
from steerclear.nudge.final_latent import FinalLatent
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
    numbered,
    options,
    sheet,
    table,
    tools,
    trials,
)
from steerclear_lab.emoji.concepts import CONCEPTS

AUTOMATIC = "nearest alternative to the prompt (default)"
USER = tuple(f"a {name}, flat style" for name in CONCEPTS.values())
HOLDS = (0.2, 0.3, 0.5, 0.7)  # γ of a condition, beside the default
LATENT, CONDITION = "final latent and condition", "condition alone"
COLUMNS = {
    "flagged": "flagged", "passed": "passed", "served": "served", "concept_top5": "concept top-5", "concept": "concept",
    "alignment": "alignment with the prompt", "bystander": "by the bystander", "style": "style kept", "same_picture": "same picture",
    "rung_nfe": "NFE, × plain", "seconds": "seconds",
}  # fmt: skip


def ways(strategy: Strategy, nothing: Strategy, pictures: bool) -> list[Trial]:
    """A trial per way. nothing: the strategy without its pull; pictures: whether it can be pulled by pictures as well."""
    found = [
        Trial("nothing (α = 0)", nothing),
        Trial(AUTOMATIC, strategy),
        Trial("the despecified prompt", strategy, prefer="despecified"),
        Trial("nearest alternative to the despecified prompt", strategy, prefer="neighbours"),
        Trial("user's texts: every concept in flat style", strategy, texts=USER),
    ]
    return found if not pictures else [
        *found,
        Trial("guard's own clear samples of the despecified prompt", strategy, prefer="samples"),
        Trial("style folder (flat), nearest to the despecified prompt", strategy, prefer="despecified", shelf="flat-"),
        Trial("all ordinary pictures, nearest to the despecified prompt", strategy, prefer="despecified", shelf=""),
        Trial("all ordinary pictures, nearest to the flagged picture", strategy, prefer="lookalikes", shelf=""),
    ]  # fmt: skip


def parts(strategy: Any) -> list[Trial]:
    """The ablation: the same D, one term of J off at a time."""
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
    """By table. A trial's label holds its table, since the same way is tried with both strategies."""
    found = {
        f"what pulls, {LATENT}": ways(FinalLatent(), FinalLatent(alpha=0.0), pictures=True),
        f"what pulls, {CONDITION}": ways(ConditionNudge(), ConditionNudge(alpha=0.0), pictures=False),
        f"ablation, {LATENT}": parts(FinalLatent()),
        f"ablation, {CONDITION}": parts(ConditionNudge()),
    }
    return {name: [_labelled(t, name) for t in some] for name, some in found.items()}


def once(tables: dict[str, list[Trial]]) -> list[Trial]:
    """What is run: a trial that stands in two tables once, under its first label."""
    seen: dict[tuple[Any, ...], Trial] = {}
    for trial in (t for some in tables.values() for t in some):
        seen.setdefault(_what(trial), trial)
    return [Trial(PLAIN, None), *seen.values()]


def summarised(tables: dict[str, list[Trial]], rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """Figures by table and way; the plain pipeline heads the first table."""
    labels = {_what(t): t.label for t in once(tables)}
    grouped = by_label(rows)
    found = {
        name: {t.label.removeprefix(f"{name}: "): figures(grouped[labels[_what(t)]]) for t in some}
        for name, some in tables.items()
    }
    first = next(iter(found))
    found[first] = {PLAIN: figures(grouped[PLAIN]), **found[first]}
    return found


def supported(found: dict[str, dict[str, Row]]) -> str:
    """Which way without labels the figures support as the default, in one paragraph."""
    lines = []
    for name in list(found)[:2]:
        # a user's wish is no default, and neither is the plain pipeline
        own = {w: f for w, f in found[name].items() if w != PLAIN and not w.startswith(("user", "style"))}
        best = max(own, key=lambda w: (_value(own[w], "served"), w == AUTOMATIC))
        lines.append(
            f"*{name.removeprefix('what pulls, ').capitalize()}*: the most requests are served by "
            f"“{best}”, {_value(own[best], 'served'):.2f}; by the default {_value(own[AUTOMATIC], 'served'):.2f}."
        )
    return "\n".join(lines)


def page(document: Row) -> str:
    """The Markdown page."""
    plan, found = document["plan"], document["summary"]
    lines = [
        "# What pulls", "", f"Made by `{document['command']}`.", "", *remark(document["environment"]),
        f"{plan['prompts']} planted prompts, {plan['seeds']} seed(s) each, {STEPS} steps, guidance {GUIDANCE}. Each way is the only rung",
        "of the ladder, so *passed* is the share of flagged requests that it alone settles. *Served*: of the mascots' requests, those that",
        "ended with a picture of their concept (within the CLIP's top 5 of all names) which the CLIP does not take for a protected one.",
        "*Concept*: CLIP cosine with the concept in the style that fits best. *Style kept*: the style that the prompt names is the one",
        "whose text fits best; the CLIP reads the style of ordinary pictures right in "
        f"{document['style_accuracy']:.0%}. The protected",
        "drawing is the concept in that very style, so a way that keeps the style has to find another drawing of it. *NFE*: what the",
        "rung cost, choosing D included, in plain generations. Brackets: 95 % bootstrap intervals over prompts. The CLIP is what no",
        "filter and no strategy uses.", "",
    ]  # fmt: skip
    for name, rows in found.items():
        lines += [
            f"## {name[0].upper()}{name[1:]}",
            "",
            *table(rows, COLUMNS, "D" if name.startswith("what") else "J"),
            "",
        ]
        if name == f"what pulls, {CONDITION}":
            lines += [supported(found), ""]
    lines += [
        "On the condition, whose U is where it starts, push and stay pull along one line: at constant length only β − 2γ counts.", "",
    ]  # fmt: skip
    shown = list(found[f"what pulls, {LATENT}"])
    return "\n".join([
        *lines, "![What passed, prompt by prompt](preferring.png)", "",
        f"Protected, then: {numbered(shown)} ({LATENT}, first seed).", "",
    ])  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    args = parser.parse_args()
    tables = kinds()
    made = spread(attempt, trials(once(tables), args.seeds, args.prompts), args.processes, "preferring")
    rows = [row for row, _ in made]
    _, judge = tools()
    words = options(args)
    document = {
        "command": shlex.join(["python", "-m", "steerclear_lab.bench.preferring", *words]),
        "environment": environment(), "plan": {"prompts": args.prompts, "seeds": args.seeds},
        "style_accuracy": round(judge.style_accuracy(), 4), "summary": summarised(tables, rows), "rows": rows,
    }  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "preferring.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "preferring.md").write_text(page(document))
    labels = [PLAIN, *(t.label for t in next(iter(tables.values())))]
    first: dict[tuple[str, str], Image.Image | None] = {}
    for row, picture in made:
        first.setdefault((row["prompt"], row["label"]), picture)
    sheet(first, labels, args.out / "preferring.png")
    print(page(document))


def _labelled(trial: Trial, name: str) -> Trial:
    return Trial(
        f"{name}: {trial.label}", trial.strategy, prefer=trial.prefer, texts=trial.texts, shelf=trial.shelf
    )


def _what(trial: Trial) -> tuple[Any, ...]:
    return trial.strategy, trial.prefer, trial.texts, trial.shelf


def _value(found: Row, key: str) -> float:
    return found[key][0] if found[key] else 0.0


if __name__ == "__main__":
    main()
