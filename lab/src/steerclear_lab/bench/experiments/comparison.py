"""The rows of prevention and quality: from a finished comparison, or from one of three methods run now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from typing import Any

from steerclear.errors import InputError
from steerclear_lab.bench.baselines import named
from steerclear_lab.bench.experiments.common import Options
from steerclear_lab.bench.harness import PLAIN, Plan, emoji_suite, run, task_runner
from steerclear_lab.bench.notebook import Notebook
from steerclear_lab.bench.summary import document, picture_features
from steerclear_lab.bench.workers import Workers

METHODS = (PLAIN, "paper", "steerclear")  # the second does not look at what it hands out, the third does
FULL = Plan(validation=0, memorized=24, template=0, ordinary=24, seeds=3, trials=1)


def comparison_document(options: Options) -> dict[str, Any]:
    """The document of a comparison with these methods, or as many of them as it was run with.

    Args:
        options: whose `rows` name a finished comparison; without it, one is run.

    Raises:
        InputError: if `options.rows` is no finished comparison, or lacks plain or guarded pictures.
    """
    if options.rows is None:
        return _run(options)
    file = options.rows / "rivals.json" if options.rows.is_dir() else options.rows
    try:
        comparison: dict[str, Any] = json.loads(file.read_text())
        missing = {PLAIN, METHODS[-1]} - set(comparison["methods"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{str(options.rows)!r} holds no finished comparison; run: steerclear bench --out DIR"
        ) from error
    if missing or comparison["methods"][PLAIN]["memorized"] is None:
        lacking = ", ".join(sorted(missing)) or "memorized prompts"
        raise InputError(
            f"{str(file)!r} cannot be compared, since it lacks {lacking}; "
            "run: steerclear bench --methods 'paper, steerclear' --out DIR"
        )
    return comparison


def source(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """What an experiment keeps of the comparison that its rows come from."""
    return {name: comparison[name] for name in ("command", "environment", "suite", "plan", "guidance")}


def methods_with(comparison: Mapping[str, Any], kind: str = "memorized") -> list[str]:
    """Those of the methods that the comparison has figures of, on a kind of prompts."""
    return [name for name in METHODS if comparison["methods"].get(name, {}).get(kind) is not None]


def _run(options: Options) -> dict[str, Any]:
    most = options.many(FULL.memorized)
    ordinary = options.many(FULL.ordinary)
    seeds = options.seeds or (1 if options.quick else FULL.seeds)
    plan = replace(
        FULL, memorized=most, ordinary=ordinary, seeds=seeds, seed=options.seed, steps=options.steps
    )
    header = {"methods": METHODS, "plan": asdict(plan)}
    folder = options.work / sha256(json.dumps(header).encode()).hexdigest()[:12]
    notebook = Notebook(
        folder, header=header, resume=(folder / "plan.json").exists(), processes=options.processes
    )
    build = emoji_suite(plan, folder)
    suite = build()
    workers = (
        Workers(partial(task_runner, build), options.processes) if options.processes > 1 else nullcontext()
    )
    with workers as make:
        chosen = run(
            suite=suite,
            methods=named(METHODS),
            plan=plan,
            notebook=notebook,
            advance=lambda: None,
            make=make,
        )
    return document(
        suite=suite,
        chosen=chosen,
        plan=plan,
        notebook=notebook,
        command="",
        features=picture_features(suite, notebook),
    )
