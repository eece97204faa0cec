"""Adaptive filtering under synthetic triggers: a filter that fires though nothing is wrong, stays silent though something is,
or names the wrong protected picture; and what that costs."""

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
    answered,
    asked,
    generator,
    judged,
    percent,
    share,
    table,
)
from steerclear_lab.bench.intervals import quantile
from steerclear_lab.bench.judge import Judge
from steerclear_lab.bench.rivals_plots import drawing, png
from steerclear_lab.bench.rivals_tables import cell

TITLE = "Adaptive filtering, with synthetic triggers"
ALARMS = (0.0, 0.1, 0.25, 0.5, 1.0)
WRONG = (0.0, 0.25, 0.5)
MISSES = (0.1, 0.25, 0.5, 1.0)
PROMPTS = 8  # of each kind
GUIDANCE = 4.0
KINDS = ("planted", "ordinary")


@dataclass(frozen=True)
class Rates:
    """alarm: how often the filter fires at a picture that is no copy; miss: how often it stays silent at a copy; wrong: how
    often, where it fires, it names another protected picture than the right one."""

    alarm: float = 0.0
    miss: float = 0.0
    wrong: float = 0.0


@dataclass(frozen=True)
class Trigger:
    """A filter that knows the truth, by the filters of a guard, and tells it as badly as its rates say.

    ids: what it may name. What it says of a picture depends on the picture and the seed alone, so that it says the same again.
    """

    truth: Sequence[Filter]
    ids: tuple[str, ...]
    rates: Rates
    seed: int
    name: str = "trigger"
    threshold: float = 0.5
    cost: ClassVar[str] = "library"

    def check(self, images: Tensor) -> list[Detection]:
        columns = [one.check(images.clone()) for one in self.truth]
        return [self._say(image, row) for image, row in zip(images, zip(*columns, strict=True), strict=True)]

    def _say(self, image: Tensor, row: Sequence[Detection]) -> Detection:
        copy = any(d.flagged for d in row)
        fires, wrong, which = (
            derive(self.seed, self.name, said, sha256(image.numpy().tobytes()).hexdigest()) / 2**63
            for said in ("fires", "wrong", "which")
        )
        if fires < self.rates.miss if copy else fires >= self.rates.alarm:
            return Detection(self.name, False, 0.0, self.threshold)
        right = next((d.matched for d in row if d.flagged and d.matched), None) or row[0].matched
        others = [i for i in self.ids if i != right]
        named = others[int(which * len(others))] if wrong < self.rates.wrong and others else right
        return Detection(self.name, True, 1.0, self.threshold, named)


@dataclass(frozen=True)
class Job:
    rates: Rates
    kind: str
    prompt: str
    file: str | None
    seed: int
    steps: int


def grid() -> list[tuple[Rates, tuple[str, ...]]]:
    """The rates that are tried, and on which prompts. Where the filter always fires, what it names is tried once; misses need
    something to be missed."""
    alarms = [(Rates(a, 0.0, w), KINDS) for a in ALARMS for w in WRONG if a < 1 or w == 0]
    return alarms + [(Rates(0.0, m, 0.0), KINDS[:1]) for m in MISSES]


def measure(options: Options) -> dict[str, Any]:
    """One row a request, and the figures of every pair of rates and kind of prompt."""
    cells = grid() if not options.quick else [grid()[0], grid()[4], grid()[-1]]
    jobs = [
        Job(rates, kind, prompt, file, derive(options.seed, "triggers", prompt, s), options.steps)
        for rates, kinds in cells
        for kind in kinds
        for prompt, file in asked(kind, options.many(PROMPTS), options.seed)
        for s in range(options.seeds or 1)
    ]
    rows = answered("triggers", answering, jobs, options.processes)
    return {"guidance": GUIDANCE, "cells": summary(rows), "rows": rows}


def answering() -> Callable[[Job], list[Row]]:
    guard, judge = Guard.default(early=False), Judge()
    return lambda job: [one(guard, judge, job)]


def one(guard: Guard, judge: Judge, job: Job) -> Row:
    """A request behind the trigger, and what the guard's own filters say of what is handed out."""
    assert guard.protected is not None
    trigger = Trigger(guard.filters, tuple(guard.protected.pictures), job.rates, job.seed)
    behind = Guard(
        guard.pipe, [trigger], protected=guard.protected, alternatives=guard.alternatives, ladder=guard.ladder
    )
    out = behind(
        job.prompt,
        generator=generator(job.seed),
        num_inference_steps=job.steps,
        guidance_scale=GUIDANCE,
    )
    image, report = out.images[0], out.reports[0]
    row: Row = {
        **asdict(job.rates), "kind": job.kind, "prompt": job.prompt, "seed": job.seed, "outcome": str(report.outcome),
        "overhead": round(report.overhead, 4), "attempts": len(report.attempts),
        "passes": image is not None and not flagged(report.final_detections),
        "copy": image is not None and flagged(guard.check([image])[0]),
    }  # fmt: skip
    return row | ({} if image is None else judged(judge, image, job.prompt, job.file))


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """The figures of each pair of rates and kind of prompt, in the order of the rows."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["alarm"], row["miss"], row["wrong"], row["kind"]), []).append(row)
    found = []
    for (alarm, miss, wrong, kind), mine in groups.items():
        costs = [r["overhead"] for r in mine]
        found.append({
            "alarm": alarm, "miss": miss, "wrong": wrong, "kind": kind, "requests": len(mine),
            "fired": share(r["outcome"] != str(Outcome.CLEAR) for r in mine), "success": share(r["passes"] for r in mine),
            "copies": share(r["copy"] for r in mine),
            "same_picture": share(r["same_picture"] for r in mine if "same_picture" in r),
            "overhead": {
                "mean": round(statistics.fmean(costs), 3), "median": round(statistics.median(costs), 3),
                "p95": round(quantile(costs, 0.95), 3),
            },
        })  # fmt: skip
    return found


def section(found: Mapping[str, Any]) -> list[str]:
    """The section's lines, without its title."""
    rows = [
        [
            c["kind"], percent(c["alarm"]), percent(c["miss"]), percent(c["wrong"]), str(c["requests"]), percent(c["fired"]),
            percent(c["success"]), percent(c["copies"]), percent(c["same_picture"]), f"{c['overhead']['mean']:.2f}",
            cell(c["overhead"]),
        ]
        for c in found["cells"]
    ]  # fmt: skip
    head = [
        "prompts", "false alarms", "misses", "wrong item", "requests", "fired", "success", "copies handed out", "same, CLIP",
        "NFE ×, mean", "NFE ×, median / p95",
    ]  # fmt: skip
    return [
        "The guard with its default ladder behind one filter alone, which knows the truth by the embedded library's own filters "
        "and tells it badly: at every look, also at a steered picture, it fires at what is no copy (*false alarms*), is silent at a "
        "copy (*misses*), and where it fires it names another protected picture (*wrong item*), each at random with the rate "
        "stated. *Fired*: at the first picture. *Success*: handed out, and not flagged at its last look. *Copies handed "
        "out*: of all requests, by the truth. Cost counts denoiser evaluations, × plain; a look at an unfinished pass is switched "
        "off. Where it always fires nothing can pass, and the cost is what the budget allows.",
        "", *table(head, rows),
    ]  # fmt: skip


def figure(found: Mapping[str, Any]) -> bytes:
    """Cost and success against the rate of false alarms, a line for each share of wrong items, a column a kind of prompt."""
    figure = drawing(9, 5.5)
    panels = figure.subplots(2, len(KINDS), squeeze=False, sharex=True, sharey="row")
    for column, kind in enumerate(KINDS):
        for wrong, colour in zip(WRONG, (CLEAN, LINE, COPIES), strict=True):
            mine = [c for c in found["cells"] if c["kind"] == kind and c["wrong"] == wrong and c["miss"] == 0]
            at = [c["alarm"] for c in mine]
            label = f"{wrong:.0%} on the wrong item"
            panels[0][column].plot(
                at, [c["overhead"]["mean"] for c in mine], "o-", color=colour, label=label, alpha=0.8
            )
            panels[1][column].plot(at, [c["success"] for c in mine], "o-", color=colour, alpha=0.8)
        panels[0][column].set(title=f"{kind} prompts")
        panels[1][column].set(xlabel="rate of false alarms", ylim=(-0.05, 1.05))
    panels[0][0].set_ylabel("NFE × plain, mean")
    panels[1][0].set_ylabel("success")
    panels[0][0].legend(fontsize=8)
    return png(figure)
