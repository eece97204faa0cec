"""Scalability: the same guard over five combinations of a model and its settings, other architectures among them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from steerclear.bench.baselines.guarded import NO_LIMIT, NewSeed
from steerclear.bench.experiments.common import (
    Options,
    Row,
    answered,
    asked,
    generator,
    hush,
    judged,
    percent,
    share,
    table,
)
from steerclear.bench.figures import CLEAN, COPIES
from steerclear.bench.judge import Judge
from steerclear.bench.rivals_page import cell
from steerclear.bench.rivals_plots import drawing, png
from steerclear.bench.summary import TOP
from steerclear.emoji import load_sibling
from steerclear.emoji.dit import label_of
from steerclear.emoji.siblings import Sibling
from steerclear.errors import ModelError
from steerclear.filters.base import flagged
from steerclear.guard import Guard
from steerclear.library import Library
from steerclear.loading import LIBRARY_FOLDER, embedded_calibration, library_filters, open_encoders
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.protected import Protected
from steerclear.steering import derive

TITLE = "Scalability over models and settings"
PROMPTS = 10  # of each kind


@dataclass(frozen=True)
class Combination:
    """title: model, sampler and guidance in words; load: its guard; guidance: scale; scheduler: another than the model's own;
    sibling: which of the other architectures."""

    title: str
    guidance: float
    scheduler: str | None = None
    sibling: Sibling | None = None

    def load(self) -> Guard:
        """The guard. Raises ModelError for a sibling that is not there."""
        if self.sibling is not None:
            return guarded(load_sibling(self.sibling))
        guard = Guard.default()
        if self.scheduler is not None:
            import diffusers

            guard.pipe.scheduler = getattr(diffusers, self.scheduler).from_config(guard.pipe.scheduler.config)
        return guard

    def call(self, pipe: Any, prompt: str) -> dict[str, Any] | None:
        """How this pipeline is asked for a prompt; None where it knows no class of that name."""
        if self.sibling == "dit":
            label = pipe.labels.get(label_of(prompt))
            return None if label is None else {"class_labels": [label]}
        extra = (
            {"max_sequence_length": 1} if self.sibling == "flow" else {}
        )  # its absent third encoder says one token
        return {"prompt": prompt, **extra}


COMBINATIONS = {
    "sd-ddim": Combination("Stable Diffusion's format, DDIM, guidance 4", 4.0),
    "sd-dpm": Combination("the same, DPM++ 2M, guidance 7.5", 7.5, scheduler="DPMSolverMultistepScheduler"),
    "sd-euler-a": Combination(
        "the same, Euler ancestral, guidance 2", 2.0, scheduler="EulerAncestralDiscreteScheduler"
    ),
    "dit": Combination("class-conditional DiT, guidance 4", 4.0, sibling="dit"),
    "flow": Combination("SD3-type flow matching, guidance 4", 4.0, sibling="flow"),
}
METHODS: dict[str, Ladder | None] = {  # beside "plain"; None: the guard's own ladder
    "guard": None,
    "new seed": Ladder((NewSeed(),) * 4, NO_LIMIT),
    "shield": Ladder(strategies(("shield",)), NO_LIMIT),
    "trajectory": Ladder(strategies(("trajectory",)), NO_LIMIT),
}


@dataclass(frozen=True)
class Job:
    combination: str
    kind: str
    prompt: str
    file: str | None
    seed: int
    steps: int


def guarded(pipe: Any) -> Guard:
    """A pipeline behind the embedded library, with the thresholds that were calibrated on the embedded model."""
    shelf = Library.open(LIBRARY_FOLDER)
    encoders = open_encoders(shelf)
    return Guard(
        pipe, library_filters(shelf, encoders), strict=library_filters(shelf, encoders, "strict"),
        protected=Protected(pipe, shelf.pictures(), shelf.ids("withhold")),
        alternatives=embedded_calibration().get("alternatives", []),
    )  # fmt: skip


def measure(options: Options) -> dict[str, Any]:
    """A row for every combination, prompt and method; the combinations whose model is not there are named."""
    hush()
    there, absent = {}, {}
    for name, combination in COMBINATIONS.items():
        try:
            combination.load()
        except ModelError:
            absent[name] = combination.title
        else:
            there[name] = combination
    jobs = [
        Job(name, kind, prompt, file, derive(options.seed, "scalability", prompt, s), options.steps)
        for name in there
        for kind in ("planted", "ordinary")
        for prompt, file in asked(kind, options.many(PROMPTS), options.seed)
        for s in range(options.seeds or 1)
    ]
    rows = answered("scalability", answering, jobs, options.processes)
    return {
        "combinations": {name: combination.title for name, combination in there.items()}, "absent": absent,
        "figures": summary(rows), "rows": rows,
    }  # fmt: skip


def answering() -> Callable[[Job], list[Row]]:
    judge = Judge()

    @cache
    def guard(name: str) -> Guard:
        return COMBINATIONS[name].load()

    return lambda job: answers(guard(job.combination), judge, job)


def answers(guard: Guard, judge: Judge, job: Job) -> list[Row]:
    """The plain picture and every method's; on ordinary prompts the guard's alone. No rows for a prompt that the model does
    not know."""
    combination = COMBINATIONS[job.combination]
    call = combination.call(guard.pipe, job.prompt)
    if call is None:
        return []
    call |= {"num_inference_steps": job.steps, "guidance_scale": combination.guidance}
    asked = {
        "combination": job.combination,
        "kind": job.kind,
        "prompt": job.prompt,
        "seed": job.seed,
    }

    def row(method: str, image: Any, **more: Any) -> Row:
        seen = {} if image is None else judged(judge, image, job.prompt, job.file)
        copy = image is not None and flagged(guard.check([image])[0])
        return {**asked, "method": method, "handed_out": image is not None, "copy": copy, **more, **seen}

    plain = guard.pipe(**call, generator=generator(job.seed)).images[0]
    rows = [row("plain", plain, overhead=1.0)]
    for method, ladder in METHODS.items():
        if job.kind == "ordinary" and ladder is not None:
            continue
        behind = _with(guard, ladder)
        out = behind(**call, generator=generator(job.seed))
        image, report = out.images[0], out.reports[0]
        why = report.attempts[0].stopped if report.attempts and image is None else ""
        rows.append(
            row(
                method, image, overhead=round(report.overhead, 4), outcome=str(report.outcome), reason=report.reason,
                refused=why.startswith("UnsupportedError"), identical=image is not None and image.tobytes() == plain.tobytes(),
            )
        )  # fmt: skip
    return rows


def _with(guard: Guard, ladder: Ladder | None) -> Guard:
    from copy import copy

    behind = copy(guard)  # shares pipe, filters and queue
    behind.ladder = replace(guard.ladder) if ladder is None else ladder
    return behind


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """The figures of every combination and method: planted prompts, and of the guard the ordinary ones too."""
    found = []
    for name, method in dict.fromkeys((r["combination"], r["method"]) for r in rows):
        mine = [r for r in rows if r["combination"] == name and r["method"] == method]
        hit = [r for r in mine if r["kind"] == "planted"]
        out = [r for r in hit if r["handed_out"]]
        harmless = [r for r in mine if r["kind"] == "ordinary"]
        found.append({
            "combination": name, "method": method, "requests": len(hit), "handed_out": len(out),
            "refused": sum(r.get("refused", False) for r in hit), "copies": share(r["copy"] for r in hit),
            "same_picture": share(r["same_picture"] for r in out),
            "concept_top5": share(r["rank"] < TOP for r in out if r["rank"] is not None),
            "alignment": round(statistics.fmean(r["alignment"] for r in out), 4) if out else None,
            "overhead": round(statistics.median(r["overhead"] for r in hit), 3) if hit else None,
            "ordinary": len(harmless),
            "ordinary_identical": share(r["identical"] for r in harmless) if method != "plain" else None,
        })  # fmt: skip
    return found


def section(found: Mapping[str, Any]) -> list[str]:
    """The section's lines, without its title."""
    titles = found["combinations"]
    rows = [
        [
            titles[f["combination"]], f["method"], f"{f['handed_out']} of {f['requests']}",
            str(f["refused"]) if f["refused"] else "–", percent(f["copies"]), percent(f["same_picture"]),
            percent(f["concept_top5"]), cell(f["alignment"]), cell(f["overhead"]),
            "–" if f["ordinary_identical"] is None else f"{percent(f['ordinary_identical'])} of {f['ordinary']}",
        ]
        for f in found["figures"]
    ]  # fmt: skip
    head = [
        "combination", "method", "handed out", "not supported", "copies", "same, CLIP", "concept in top 5", "alignment",
        "NFE ×, median", "ordinary identical",
    ]  # fmt: skip
    lines = [
        "Planted prompts, plain, behind the guard with its default ladder, with new seeds under the same prompt (at most four), and "
        "with one strategy alone. All have memorized the same pictures, and are judged by the same filters, with the thresholds that "
        "were calibrated on the first. *Copies*: handed out and flagged by these filters, of all requests; what the guard "
        "hands out is verified by them, so that its zero is by construction. *Not supported*: requests for which the pipeline cannot "
        "follow the strategy. *Ordinary identical*: ordinary prompts that get the plain picture bit for bit.",
        "", *table(head, rows),
    ]  # fmt: skip
    if found["absent"]:
        lines += ["", f"Not measured, since the model was not there: {'; '.join(found['absent'].values())}."]
    return lines


def figure(found: Mapping[str, Any]) -> bytes:
    """Same picture by CLIP, nothing handed out, and cost, a bar a method, a group a combination."""
    names = list(found["combinations"])
    methods = ["plain", *METHODS]
    colours = dict(zip(methods, (CLEAN, COPIES, "#bbbbbb", "#ddcc77", "#117733"), strict=True))
    figure = drawing(12, 3.4)
    parts: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("same picture, CLIP", lambda f: f["same_picture"]),
        ("nothing handed out", lambda f: 1 - f["handed_out"] / f["requests"] if f["requests"] else None),
        ("NFE × plain, median", lambda f: f["overhead"]),
    )
    panels = figure.subplots(1, len(parts))
    for panel, (title, value) in zip(panels, parts, strict=True):
        for f in found["figures"]:
            x = names.index(f["combination"]) + 0.16 * (methods.index(f["method"]) - 2)
            if (height := value(f)) is not None:
                panel.bar(x, height, 0.15, color=colours[f["method"]])
        panel.set_title(title, fontsize=9)
        panel.set_xticks(range(len(names)), names, fontsize=7)
    for method, colour in colours.items():
        panels[0].bar(0, 0, color=colour, label=method)
    panels[0].legend(fontsize=7)
    return png(figure)
