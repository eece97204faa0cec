"""Adaptive filtering with synthetic triggers: what a filter's false alarms, misses, wrong matches cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, ClassVar

from torch import Tensor

from steerclear.filters.base import Filter, flagged
from steerclear.guard import Guard
from steerclear.plots import CLEAN, COPIES, LINE
from steerclear.steering import derive
from steerclear.types import Detection, Outcome
from steerclear_lab.bench.experiments.common import (
    Options,
    Row,
    percent,
    run_jobs,
    sample_prompts,
    share,
    torch_generator,
    verdict_fields,
)
from steerclear_lab.bench.intervals import quantile
from steerclear_lab.bench.judge import Judge
from steerclear_lab.bench.rivals_plots import drawing, png
from steerclear_lab.bench.rivals_tables import cell
from steerclear_lab.pages import render, table

TITLE = "Adaptive filtering, with synthetic triggers"
ALARMS = (0.0, 0.1, 0.25, 0.5, 1.0)
WRONG = (0.0, 0.25, 0.5)
MISSES = (0.1, 0.25, 0.5, 1.0)
PROMPTS = 8  # of each kind
GUIDANCE = 4.0
KINDS = ("planted", "ordinary")


@dataclass(frozen=True)
class Rates:
    """How often a filter errs, as shares in [0, 1].

    Attributes:
        alarm: of the pictures that are no copy, at which it fires.
        miss: of the copies, at which it stays silent.
        wrong: of the pictures at which it fires, for which it names another protected picture than the right
            one.
    """

    alarm: float = 0.0
    miss: float = 0.0
    wrong: float = 0.0


@dataclass(frozen=True)
class Trigger:
    """A filter that knows the right answer from a guard's filters, and errs as often as its rates say.

    Its answer depends on the picture and the seed alone, so that the same picture gets the same answer.

    Attributes:
        truth: the guard's filters.
        ids: the protected pictures that it may name.
        rates: how often it errs.
        seed: of its errors.
        name: of the filter.
        threshold: of its scores, which are 0 and 1.
        cost: as a filter states it.
    """

    truth: Sequence[Filter]
    ids: tuple[str, ...]
    rates: Rates
    seed: int
    name: str = "trigger"
    threshold: float = 0.5
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        """One detection per image (B, 3, H, W)."""
        columns = [filter_.check(images.clone()) for filter_ in self.truth]
        rows = zip(*columns, strict=True)
        return [self._detection(image, row) for image, row in zip(images, rows, strict=True)]

    def _detection(self, image: Tensor, truth: Sequence[Detection]) -> Detection:
        """The answer for one image, given the right answers of all filters."""
        is_copy = any(d.flagged for d in truth)
        digest = sha256(image.numpy().tobytes()).hexdigest()
        fires, wrong, which = (
            derive(self.seed, self.name, draw, digest) / 2**63 for draw in ("fires", "wrong", "which")
        )
        if fires < self.rates.miss if is_copy else fires >= self.rates.alarm:
            return Detection(self.name, flagged=False, score=0.0, threshold=self.threshold)
        right = next((d.matched for d in truth if d.flagged and d.matched), None) or truth[0].matched
        others = [item for item in self.ids if item != right]
        matched = others[int(which * len(others))] if wrong < self.rates.wrong and others else right
        return Detection(self.name, flagged=True, score=1.0, threshold=self.threshold, matched=matched)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request behind a trigger."""

    rates: Rates
    kind: str
    prompt: str
    file: str | None
    seed: int
    steps: int


def grid() -> list[tuple[Rates, tuple[str, ...]]]:
    """The rates that are tried, and the kinds of prompts for each.

    Where the filter always fires, no picture passes, whatever it names: that is tried once. Misses are tried
    on planted prompts alone, since only copies can be missed.
    """
    alarms = [(Rates(alarm=a, wrong=w), KINDS) for a in ALARMS for w in WRONG if a < 1 or w == 0]
    return alarms + [(Rates(miss=m), KINDS[:1]) for m in MISSES]


def measure(options: Options) -> dict[str, Any]:
    """One row for each request, and the figures of each choice of rates and kind of prompts."""
    cells = grid() if not options.quick else [grid()[0], grid()[4], grid()[-1]]
    jobs = [
        Job(
            rates=rates,
            kind=kind,
            prompt=prompt,
            file=file,
            seed=derive(options.seed, "triggers", prompt, s),
            steps=options.steps,
        )
        for rates, kinds in cells
        for kind in kinds
        for prompt, file in sample_prompts(kind, count=options.many(PROMPTS), seed=options.seed)
        for s in range(options.seeds or 1)
    ]
    rows = run_jobs("triggers", make_worker, jobs, processes=options.processes)
    return {"guidance": GUIDANCE, "cells": summary(rows), "rows": rows}


def make_worker() -> Callable[[Job], list[Row]]:
    """What runs the jobs of one process."""
    guard, judge = Guard.default(early=False), Judge()
    return lambda job: [run_job(guard, judge, job)]


def run_job(guard: Guard, judge: Judge, job: Job) -> Row:
    """A request behind the trigger, and what the guard's own filters say of what is handed out."""
    assert guard.protected is not None
    trigger = Trigger(
        truth=guard.filters, ids=tuple(guard.protected.pictures), rates=job.rates, seed=job.seed
    )
    triggered = Guard(
        guard.pipe, [trigger], protected=guard.protected, alternatives=guard.alternatives, ladder=guard.ladder
    )
    out = triggered(
        job.prompt,
        generator=torch_generator(job.seed),
        num_inference_steps=job.steps,
        guidance_scale=GUIDANCE,
    )
    image, report = out.images[0], out.reports[0]
    row: Row = {
        **asdict(job.rates),
        "kind": job.kind,
        "prompt": job.prompt,
        "seed": job.seed,
        "outcome": str(report.outcome),
        "overhead": round(report.overhead, 4),
        "attempts": len(report.attempts),
        "passes": image is not None and not flagged(report.final_detections),
        "copy": image is not None and flagged(guard.check([image])[0]),
    }
    return row | (
        {} if image is None else verdict_fields(judge, image=image, prompt=job.prompt, file=job.file)
    )


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """The figures of each choice of rates and kind of prompts, in the order of the rows."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["alarm"], row["miss"], row["wrong"], row["kind"]), []).append(row)
    return [
        {"alarm": alarm, "miss": miss, "wrong": wrong, "kind": kind, **cell_figures(group)}
        for (alarm, miss, wrong, kind), group in groups.items()
    ]


def cell_figures(rows: list[Row]) -> dict[str, Any]:
    """The figures of the rows of one choice of rates and kind of prompts."""
    costs = [r["overhead"] for r in rows]
    return {
        "requests": len(rows),
        "fired": share(r["outcome"] != str(Outcome.CLEAR) for r in rows),
        "success": share(r["passes"] for r in rows),
        "copies": share(r["copy"] for r in rows),
        "same_picture": share(r["same_picture"] for r in rows if "same_picture" in r),
        "overhead": {
            "mean": round(statistics.fmean(costs), 3),
            "median": round(statistics.median(costs), 3),
            "p95": round(quantile(costs, 0.95), 3),
        },
    }


def section(document: Mapping[str, Any]) -> str:
    """The experiment's section as Markdown, without its title."""
    rows = [
        [
            figures["kind"],
            percent(figures["alarm"]),
            percent(figures["miss"]),
            percent(figures["wrong"]),
            str(figures["requests"]),
            percent(figures["fired"]),
            percent(figures["success"]),
            percent(figures["copies"]),
            percent(figures["same_picture"]),
            f"{figures['overhead']['mean']:.2f}",
            cell(figures["overhead"]),
        ]
        for figures in document["cells"]
    ]
    header = [
        "prompts",
        "false alarms",
        "misses",
        "wrong item",
        "requests",
        "fired",
        "success",
        "copies handed out",
        "same, CLIP",
        "NFE ×, mean",
        "NFE ×, median / p95",
    ]
    return render("triggers.md.j2", {"table": table(header, rows)})


def figure(document: Mapping[str, Any]) -> bytes:
    """Cost and success against the rate of false alarms, one line per share of wrong items; PNG bytes."""
    figure = drawing(9, 5.5)
    panels = figure.subplots(2, len(KINDS), squeeze=False, sharex=True, sharey="row")
    for column, kind in enumerate(KINDS):
        for wrong, colour in zip(WRONG, (CLEAN, LINE, COPIES), strict=True):
            cells = [
                c for c in document["cells"] if c["kind"] == kind and c["wrong"] == wrong and c["miss"] == 0
            ]
            alarms = [c["alarm"] for c in cells]
            label = f"{wrong:.0%} on the wrong item"
            panels[0][column].plot(
                alarms,
                [c["overhead"]["mean"] for c in cells],
                "o-",
                color=colour,
                label=label,
                alpha=0.8,
            )
            panels[1][column].plot(alarms, [c["success"] for c in cells], "o-", color=colour, alpha=0.8)
        panels[0][column].set(title=f"{kind} prompts")
        panels[1][column].set(xlabel="rate of false alarms", ylim=(-0.05, 1.05))
    panels[0][0].set_ylabel("NFE × plain, mean")
    panels[1][0].set_ylabel("success")
    panels[0][0].legend(fontsize=8)
    return png(figure)
