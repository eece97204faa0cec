"""Scalability: the guard and its rivals over combinations of a model, its architecture and its settings."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

from steerclear.errors import ModelError, UnsupportedError
from steerclear.filters.base import flagged
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.steering import derive
from steerclear_lab.bench.baselines import METHODS, Context, MethodOutput
from steerclear_lab.bench.baselines.guarded import NO_LIMIT, generate_guarded
from steerclear_lab.bench.experiments.combinations import COMBINATIONS
from steerclear_lab.bench.experiments.common import (
    Options,
    Row,
    percent,
    run_jobs,
    sample_prompts,
    share,
    silence_libraries,
    verdict_fields,
)
from steerclear_lab.bench.judge import Judge
from steerclear_lab.bench.rivals_plots import drawing, png
from steerclear_lab.bench.rivals_tables import cell
from steerclear_lab.bench.summary import TOP
from steerclear_lab.pages import render, table

TITLE = "Scalability over models and settings"
PROMPTS = 10  # of each kind
ALONE = ("shield", "trajectory")  # strategies of this library that no rival is
PLAIN, OURS = "none", "steerclear"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request to every method; first_seed is the run's."""

    combination: str
    kind: str
    prompt: str
    file: str | None
    seed: int
    steps: int
    first_seed: int


def measure(options: Options) -> dict[str, Any]:
    """One row for every combination, prompt and method; combinations whose model is missing are named."""
    silence_libraries()
    available, absent = {}, {}
    for name, combination in COMBINATIONS.items():
        try:
            combination.load()
        except ModelError:
            absent[name] = combination.title
        else:
            available[name] = combination.title
    jobs = [
        Job(
            combination=name,
            kind=kind,
            prompt=prompt,
            file=file,
            seed=derive(options.seed, "scalability", prompt, s),
            steps=options.steps,
            first_seed=options.seed,
        )
        for name in available
        for kind in ("planted", "ordinary")
        for prompt, file in sample_prompts(kind, count=options.many(PROMPTS), seed=options.seed)
        for s in range(options.seeds or 1)
    ]
    rows = run_jobs("scalability", make_worker, jobs, processes=options.processes)
    return {"combinations": available, "absent": absent, "figures": summary(rows), "rows": rows}


def methods() -> dict[str, Any]:
    """All methods of the comparison at their papers' settings, the plain pipeline first, and ALONE."""
    alone = {name: StrategyAlone(name) for name in ALONE}
    return {**{name: method() for name, method in METHODS.items()}, **alone}


@dataclass(frozen=True)
class StrategyAlone:
    """The guard with a ladder of one strategy."""

    name: str

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        """What the guard hands out."""
        return generate_guarded(
            context, prompt=prompt, seed=seed, ladder=Ladder(strategies((self.name,)), NO_LIMIT)
        )


def make_worker() -> Callable[[Job], list[Row]]:
    """What runs the jobs of one process."""
    judge = Judge()

    @cache
    def context(name: str, steps: int, seed: int) -> Context:
        return COMBINATIONS[name].context(steps, seed)

    return lambda job: run_job(context(job.combination, job.steps, job.first_seed), judge, job)


def run_job(context: Context, judge: Judge, job: Job) -> list[Row]:
    """The picture of every method; on ordinary prompts the plain one's and the guard's alone.

    There are no rows for a prompt that the model cannot draw.
    """
    guard = context.required_guard()
    if not COMBINATIONS[job.combination].can_draw(guard.pipe, job.prompt):
        return []
    rows: list[Row] = []
    plain: Image.Image | None = None
    for name, method in methods().items():
        if job.kind == "ordinary" and name not in (PLAIN, OURS):
            continue
        row: Row = {
            "combination": job.combination,
            "kind": job.kind,
            "prompt": job.prompt,
            "seed": job.seed,
            "method": name,
            "refused": None,
            "handed_out": False,
            "copy": False,
            "overhead": None,
        }
        rows.append(row)
        try:
            output = method.generate(context, job.prompt, job.seed)
        except UnsupportedError as error:
            row["refused"] = str(error)
            continue
        row["overhead"] = round(output.nfe / context.plain_nfe, 4)
        if output.image is None:
            continue
        plain = output.image if name == PLAIN else plain
        row |= {
            "handed_out": True,
            "copy": flagged(guard.check([output.image])[0]),
            "identical": plain is not None and output.image.tobytes() == plain.tobytes(),
            **verdict_fields(judge, image=output.image, prompt=job.prompt, file=job.file),
        }
    return rows


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """The figures of every combination and method on planted prompts; of the guard on ordinary ones too."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["combination"], row["method"]), []).append(row)
    return [
        {"combination": combination, "method": method, **method_figures(method, group)}
        for (combination, method), group in groups.items()
    ]


def method_figures(method: str, rows: list[Row]) -> dict[str, Any]:
    """The figures of one method's rows in one combination."""
    planted = [r for r in rows if r["kind"] == "planted"]
    done = [r for r in planted if r["refused"] is None]
    out = [r for r in done if r["handed_out"]]
    ordinary = [r for r in rows if r["kind"] == "ordinary"]
    identical = share(r["handed_out"] and r["identical"] for r in ordinary)
    return {
        "requests": len(planted),
        "handed_out": len(out),
        "refused": next((r["refused"] for r in planted if r["refused"]), None),
        "copies": share(r["copy"] for r in done),
        "nothing": share(not r["handed_out"] for r in done),
        "same_picture": share(r["same_picture"] for r in out),
        "concept_top5": share(r["rank"] < TOP for r in out if r["rank"] is not None),
        "alignment": round(statistics.fmean(r["alignment"] for r in out), 4) if out else None,
        "overhead": round(statistics.median(r["overhead"] for r in done), 3) if done else None,
        "ordinary": len(ordinary),
        "ordinary_identical": identical if method == OURS else None,
    }


def failing(figures: Mapping[str, Any]) -> float | None:
    """The share of requests that end with a copy or with nothing; None where the method is not supported."""
    return None if figures["refused"] else figures["copies"] + figures["nothing"]


def section(document: Mapping[str, Any]) -> str:
    """The experiment's section as Markdown, without its title."""
    titles = document["combinations"]
    by_place = {(f["method"], f["combination"]): f for f in document["figures"]}
    names = list(dict.fromkeys(f["method"] for f in document["figures"]))

    def mean_failing(name: str) -> float:
        shares = [failed for c in titles if (failed := failing(by_place[name, c])) is not None]
        return statistics.fmean(shares) if shares else math.inf

    def copies_and_nothing(figures: Mapping[str, Any]) -> str:
        return "–" if figures["refused"] else f"{percent(figures['copies'])} / {percent(figures['nothing'])}"

    order = sorted(names, key=mean_failing)
    overview = [[name, *(copies_and_nothing(by_place[name, c]) for c in titles)] for name in order]
    values = {
        "overview": table(["method", *titles.values()], overview),
        "combinations": [
            combination_values(title, [by_place[name, combination] for name in order])
            for combination, title in titles.items()
        ],
        "absent": "; ".join(document["absent"].values()),
    }
    return render("scalability.md.j2", values)


def combination_values(title: str, figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the template shows of one combination. figures: of all methods, in the order of the table."""
    rows = [
        [
            f["method"],
            f"{f['handed_out']} of {f['requests']}",
            percent(f["copies"]),
            percent(f["same_picture"]),
            percent(f["concept_top5"]),
            cell(f["alignment"]),
            cell(f["overhead"]),
        ]
        for f in figures
        if not f["refused"]
    ]
    header = [
        "method",
        "handed out",
        "copies",
        "same, CLIP",
        "concept in top 5",
        "alignment",
        "NFE ×, median",
    ]
    ours = next(f for f in figures if f["method"] == OURS)
    return {
        "title": title,
        "table": table(header, rows),
        "identical": percent(ours["ordinary_identical"]),
        "ordinary": ours["ordinary"],
        "refused": "; ".join(f"{f['method']} ({f['refused']})" for f in figures if f["refused"]),
    }


def figure(document: Mapping[str, Any]) -> bytes:
    """Shares of copies or nothing, and of same pictures by CLIP, per method and combination; PNG bytes.

    Grey: the method is not supported there.
    """
    names = list(dict.fromkeys(f["method"] for f in document["figures"]))
    combinations = list(document["combinations"])
    by_place = {(f["method"], f["combination"]): f for f in document["figures"]}
    parts: tuple[tuple[str, Callable[[Any], float | None]], ...] = (
        ("copies, or nothing handed out", failing),
        ("same picture, CLIP", lambda f: f["same_picture"]),
    )
    figure = drawing(10, 1.2 + 0.24 * len(names))
    for panel, (title, value) in zip(figure.subplots(1, len(parts)), parts, strict=True):
        values = [[value(by_place[name, c]) for c in combinations] for name in names]
        panel.set_facecolor("#dddddd")
        shown = [[math.nan if x is None else x for x in row] for row in values]
        panel.imshow(shown, cmap="RdYlGn_r", vmin=0, vmax=1, aspect="auto", alpha=0.6)
        for y, row in enumerate(values):
            for x, value_there in enumerate(row):
                panel.text(x, y, percent(value_there), ha="center", va="center", fontsize=7)
        panel.set_title(title, fontsize=9)
        panel.set_xticks(range(len(combinations)), combinations, fontsize=7)
        panel.set_yticks(range(len(names)), names, fontsize=7)
    return png(figure)
