"""Scalability: the same guard, and its rivals, over five combinations of a model and its settings, other architectures among
them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

from steerclear.embedded import LIBRARY_FOLDER, PROTECTED_FOLDER, read_prompts
from steerclear.errors import ModelError, UnsupportedError
from steerclear.filters.base import flagged
from steerclear.filters.library import library_filters
from steerclear.guard import Guard
from steerclear.library import Library
from steerclear.loading import embedded_calibration, filter_parts, open_encoders
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.protected import Protected
from steerclear.steering import derive
from steerclear_lab.bench.baselines import METHODS, Context, MethodOutput
from steerclear_lab.bench.baselines.guarded import NO_LIMIT, generate_guarded
from steerclear_lab.bench.experiments.common import (
    Options,
    Row,
    answered,
    asked,
    hush,
    judged,
    percent,
    share,
    table,
)
from steerclear_lab.bench.judge import Judge, ordinary_pictures
from steerclear_lab.bench.rivals_page import cell
from steerclear_lab.bench.rivals_plots import drawing, png
from steerclear_lab.bench.suites import CALIBRATION, PREFERRED, references
from steerclear_lab.bench.summary import TOP
from steerclear_lab.emoji.dit import label_of
from steerclear_lab.emoji.siblings import Sibling, load_sibling

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
            pipe = load_sibling(self.sibling)
            known = embedded_calibration().get("alternatives", [])
            return guarded(pipe, [text for text in known if self.knows(pipe, text)])
        guard = Guard.default()
        if self.scheduler is not None:
            import diffusers

            guard.pipe.scheduler = getattr(diffusers, self.scheduler).from_config(guard.pipe.scheduler.config)
        return guard

    def knows(self, pipe: Any, prompt: str) -> bool:
        """Whether this pipeline can be asked for a prompt: a class-conditional one has its names."""
        return self.sibling != "dit" or label_of(prompt) in pipe.labels

    def context(self, steps: int, seed: int) -> Context:
        """The same for every method."""
        guard = self.load()
        captions = json.loads((PROTECTED_FOLDER / "captions.json").read_text())
        harmless = [
            prompt
            for prompt, _ in asked("ordinary", len(read_prompts("ordinary")), derive(seed, "calibration"))
        ]
        return Context(
            guard.pipe, steps, self.guidance, guard,
            references(guard, lambda item: str(captions[f"{item}.png"]), ordinary_pictures()[::PREFERRED]), CONCEPT,
            tuple(p for p in harmless if self.knows(guard.pipe, p))[:CALIBRATION],
            # the third encoder of the flow-matching sibling is absent, and says one token
            extra={"max_sequence_length": 1} if self.sibling == "flow" else {},
        )  # fmt: skip


COMBINATIONS = {
    "sd-ddim": Combination("Stable Diffusion's format, DDIM, guidance 4", 4.0),
    "sd-dpm": Combination("the same, DPM++ 2M, guidance 7.5", 7.5, scheduler="DPMSolverMultistepScheduler"),
    "sd-euler-a": Combination(
        "the same, Euler ancestral, guidance 2", 2.0, scheduler="EulerAncestralDiscreteScheduler"
    ),
    "dit": Combination("class-conditional DiT, guidance 4", 4.0, sibling="dit"),
    "flow": Combination("SD3-type flow matching, guidance 4", 4.0, sibling="flow"),
}
ALONE = ("shield", "trajectory")  # strategies of ours that no rival is
PLAIN, OURS = "none", "steerclear"
CONCEPT = "mascot, photo"  # what the protected pictures are, for methods that want it in words


@dataclass(frozen=True)
class Job:
    combination: str
    kind: str
    prompt: str
    file: str | None
    seed: int
    steps: int
    first_seed: int  # the run's


def guarded(pipe: Any, alternatives: Sequence[str]) -> Guard:
    """A pipeline behind the embedded library, with the thresholds that were calibrated on the embedded model."""
    shelf = Library.open(LIBRARY_FOLDER)
    encoders = open_encoders(shelf)
    return Guard(
        pipe, library_filters(filter_parts(shelf, encoders)), strict=library_filters(filter_parts(shelf, encoders, "strict")),
        protected=Protected(pipe, shelf.pictures(), shelf.ids("withhold"), describe=shelf.captions_of),
        alternatives=alternatives,
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
        Job(
            name,
            kind,
            prompt,
            file,
            derive(options.seed, "scalability", prompt, s),
            options.steps,
            options.seed,
        )
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


def methods() -> dict[str, Any]:
    """All methods of the comparison at their papers' settings, the plain pipeline first, and strategies of ours alone."""
    return {**{name: method() for name, method in METHODS.items()}, **{name: Alone(name) for name in ALONE}}


@dataclass(frozen=True)
class Alone:
    """The guard with one strategy."""

    name: str

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        return generate_guarded(context, prompt, seed, Ladder(strategies((self.name,)), NO_LIMIT))


def answering() -> Callable[[Job], list[Row]]:
    judge = Judge()

    @cache
    def context(name: str, steps: int, seed: int) -> Context:
        return COMBINATIONS[name].context(steps, seed)

    return lambda job: answers(context(job.combination, job.steps, job.first_seed), judge, job)


def answers(context: Context, judge: Judge, job: Job) -> list[Row]:
    """Every method's picture; on ordinary prompts the plain one's and the guard's alone. No rows for a prompt that the model
    does not know."""
    guard = context.required_guard()
    if not COMBINATIONS[job.combination].knows(guard.pipe, job.prompt):
        return []
    rows: list[Row] = []
    plain: Image.Image | None = None
    for name, method in methods().items():
        if job.kind == "ordinary" and name not in (PLAIN, OURS):
            continue
        row: Row = {
            "combination": job.combination, "kind": job.kind, "prompt": job.prompt, "seed": job.seed, "method": name,
            "refused": None, "handed_out": False, "copy": False, "overhead": None,
        }  # fmt: skip
        rows.append(row)
        try:
            made = method.generate(context, job.prompt, job.seed)
        except UnsupportedError as error:
            row["refused"] = str(error)
            continue
        row["overhead"] = round(made.nfe / context.plain_nfe, 4)
        if made.image is None:
            continue
        plain = made.image if name == PLAIN else plain
        row |= {
            "handed_out": True, "copy": flagged(guard.check([made.image])[0]),
            "identical": plain is not None and made.image.tobytes() == plain.tobytes(),
            **judged(judge, made.image, job.prompt, job.file),
        }  # fmt: skip
    return rows


def summary(rows: list[Row]) -> list[dict[str, Any]]:
    """The figures of every combination and method: planted prompts, and of the guard the ordinary ones too."""
    found = []
    for name, method in dict.fromkeys((r["combination"], r["method"]) for r in rows):
        mine = [r for r in rows if r["combination"] == name and r["method"] == method]
        hit = [r for r in mine if r["kind"] == "planted"]
        done = [r for r in hit if r["refused"] is None]
        out = [r for r in done if r["handed_out"]]
        harmless = [r for r in mine if r["kind"] == "ordinary"]
        found.append({
            "combination": name, "method": method, "requests": len(hit), "handed_out": len(out),
            "refused": next((r["refused"] for r in hit if r["refused"]), None), "copies": share(r["copy"] for r in done),
            "nothing": share(not r["handed_out"] for r in done), "same_picture": share(r["same_picture"] for r in out),
            "concept_top5": share(r["rank"] < TOP for r in out if r["rank"] is not None),
            "alignment": round(statistics.fmean(r["alignment"] for r in out), 4) if out else None,
            "overhead": round(statistics.median(r["overhead"] for r in done), 3) if done else None,
            "ordinary": len(harmless),
            "ordinary_identical": share(r["handed_out"] and r["identical"] for r in harmless) if method == OURS else None,
        })  # fmt: skip
    return found


def failing(figures: Mapping[str, Any]) -> float | None:
    """The share of requests that end with a copy or with nothing; None where the method cannot be asked."""
    return None if figures["refused"] else figures["copies"] + figures["nothing"]


def section(found: Mapping[str, Any]) -> list[str]:
    """The section's lines, without its title."""
    titles, figures = found["combinations"], found["figures"]
    names = list(dict.fromkeys(f["method"] for f in figures))
    at = {(f["method"], f["combination"]): f for f in figures}

    def mean_failing(name: str) -> float:
        known = [x for c in titles if (x := failing(at[name, c])) is not None]
        return statistics.fmean(known) if known else math.inf

    order = sorted(names, key=mean_failing)

    def both(f: Mapping[str, Any]) -> str:
        return "–" if f["refused"] else f"{percent(f['copies'])} / {percent(f['nothing'])}"

    lines = [
        "Planted prompts, by the plain pipeline (none), by this library, by every rival at its paper's own settings, and by two "
        "strategies of ours alone. All models have memorized the same pictures, and are judged by the same filters, with the "
        "thresholds that were calibrated on the first. What a guard hands out is verified by these filters, so that its zero is "
        "by construction; *same, CLIP* is a judge that nobody uses. A rival counts where the pipeline has what it acts on.",
        "", "Copies handed out / requests that end with nothing, of all planted requests:", "",
        *table(["method", *titles.values()], [[name, *(both(at[name, c]) for c in titles)] for name in order]),
    ]  # fmt: skip
    head = ["method", "handed out", "copies", "same, CLIP", "concept in top 5", "alignment", "NFE ×, median"]
    for combination, title in titles.items():
        mine = [at[name, combination] for name in order]
        rows = [
            [
                f["method"], f"{f['handed_out']} of {f['requests']}", percent(f["copies"]), percent(f["same_picture"]),
                percent(f["concept_top5"]), cell(f["alignment"]), cell(f["overhead"]),
            ]
            for f in mine if not f["refused"]
        ]  # fmt: skip
        ours = at[OURS, combination]
        lines += ["", f"**{title}.**", "", *table(head, rows), ""]
        lines.append(
            f"Ordinary prompts that get the plain picture bit for bit behind the guard: {percent(ours['ordinary_identical'])} of "
            f"{ours['ordinary']}."
        )
        refused = {f["method"]: f["refused"] for f in mine if f["refused"]}
        if refused:
            lines.append(f"Not asked: {'; '.join(f'{name} ({why})' for name, why in refused.items())}.")
    if found["absent"]:
        lines += ["", f"Not measured, since the model was not there: {'; '.join(found['absent'].values())}."]
    return lines


def figure(found: Mapping[str, Any]) -> bytes:
    """A row a method, a column a combination: copies or nothing, and same picture by CLIP. Grey: cannot be asked."""
    names = list(dict.fromkeys(f["method"] for f in found["figures"]))
    combinations = list(found["combinations"])
    at = {(f["method"], f["combination"]): f for f in found["figures"]}
    parts: tuple[tuple[str, Callable[[Any], float | None]], ...] = (
        ("copies, or nothing handed out", failing),
        ("same picture, CLIP", lambda f: f["same_picture"]),
    )
    figure = drawing(10, 1.2 + 0.24 * len(names))
    for panel, (title, value) in zip(figure.subplots(1, len(parts)), parts, strict=True):
        values = [[value(at[name, c]) for c in combinations] for name in names]
        panel.set_facecolor("#dddddd")
        shown = [[math.nan if x is None else x for x in row] for row in values]
        panel.imshow(shown, cmap="RdYlGn_r", vmin=0, vmax=1, aspect="auto", alpha=0.6)
        for y, row in enumerate(values):
            for x, share_of in enumerate(row):
                panel.text(x, y, percent(share_of), ha="center", va="center", fontsize=7)
        panel.set_title(title, fontsize=9)
        panel.set_xticks(range(len(combinations)), combinations, fontsize=7)
        panel.set_yticks(range(len(names)), names, fontsize=7)
    return png(figure)
