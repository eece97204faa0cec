"""Stability: how far the objective's settings can be moved before it diverges, draws badly, or draws something else."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from steerclear.filters.base import flagged
from steerclear.guard import Guard
from steerclear.nudge import Candidate, Ladder, SteerTask
from steerclear.nudge.condition import HOLD, nudged_condition
from steerclear.nudge.objective import Objective, minimise
from steerclear.nudge.prefer import preferred_latents
from steerclear.pixels import fit, to_tensor
from steerclear.plots import CLEAN, COPIES
from steerclear.steering import derive
from steerclear_lab.bench.baselines.paper import PaperNudge
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

TITLE = "Stability of the final-latent objective"
PROMPTS, ORDINARY = 12, 40
GUIDANCE, STRENGTH = 4.0, 0.7
TOLERANCE = 0.01  # of J, which α = β = 1 hold between −2 and 2
LENGTHS = (0.5, 2.0)  # of the latent, × where it began
TYPICAL = 0.05  # share of plain ordinary pictures that count as badly drawn
TOP = 5
MARGIN = 0.125  # of the pictures: how many more than at the default setting may have a fault where a setting is safe
MINIMISERS = {
    "descent": "the guard's: normalised steps with backtracking, squared distance, regenerated under the nudged condition",
    "adam": "the paper's: Adam without backtracking, plain distance, regenerated under the request's own condition",
}
FAULTS = ("not_finite", "diverged", "quality_lost", "drifted")


@dataclass(frozen=True)
class Setting:
    """Of the objective and its minimisation; the defaults are the guard's."""

    iterations: int = 40
    rate: float = 0.05
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0


SWEEPS: dict[str, tuple[Any, ...]] = {
    "iterations": (1, 10, 40, 160, 640), "rate": (0.005, 0.05, 0.5, 2.0, 10.0), "alpha": (0.0, 0.3, 1.0, 10.0, 100.0),
    "beta": (0.0, 0.3, 1.0, 10.0, 100.0), "gamma": (0.0, 0.1, 1.0, 10.0, 100.0),
}  # fmt: skip
CORNERS = (Setting(160, 0.5, 1.0, 1.0, 0.0), Setting(640, 10.0, 100.0, 100.0, 0.0))  # several at once


@dataclass(frozen=True)
class Job:
    """kind "planted": every setting on one request; "ordinary": a plain picture, to know what is well drawn."""

    kind: str
    prompt: str
    file: str | None
    seed: int
    steps: int
    settings: tuple[Setting, ...]


def settings() -> tuple[Setting, ...]:
    """One value moved at a time, then several."""
    moved = [replace(Setting(), **{name: value}) for name, values in SWEEPS.items() for value in values]
    return tuple(dict.fromkeys([Setting(), *moved, *CORNERS]))


def measure(options: Options) -> dict[str, Any]:
    """A row for every setting, minimiser and request, and the figures of every setting."""
    tried = settings() if not options.quick else (Setting(), Setting(rate=10.0), CORNERS[-1])
    ordinary = asked("ordinary", min(ORDINARY, 5 * options.many(PROMPTS)), options.seed)
    planted = asked("planted", options.many(PROMPTS), options.seed, mascots=True)
    jobs = [
        Job(kind, prompt, file, derive(options.seed, "stability", prompt, s), options.steps, tried)
        for kind, prompts in (("planted", planted), ("ordinary", ordinary))
        for prompt, file in prompts
        for s in range((options.seeds or 1) if kind == "planted" else 1)
    ]
    rows = answered("stability", answering, jobs, options.processes)
    typical = quantile([r["typicality"] for r in rows if r["kind"] == "ordinary"], TYPICAL)
    pushed = [classified(r, typical) for r in rows if r["kind"] == "planted"]
    figures = summary(pushed)
    return {
        "guidance": GUIDANCE, "strength": STRENGTH, "typical": round(typical, 4),
        "limits": {"tolerance": TOLERANCE, "lengths": LENGTHS, "typical": TYPICAL, "top": TOP, "margin": MARGIN},
        "minimisers": MINIMISERS, "settings": figures, "safe": {m: region(figures, m) for m in MINIMISERS},
        "rows": pushed + [r for r in rows if r["kind"] == "ordinary"],
    }  # fmt: skip


def answering() -> Callable[[Job], list[Row]]:
    guard, judge = Guard.default(early=False), Judge()
    return lambda job: planted(guard, judge, job) if job.kind == "planted" else [ordinary(guard, judge, job)]


def ordinary(guard: Guard, judge: Judge, job: Job) -> Row:
    image = guard.pipe(
        job.prompt, generator=generator(job.seed), num_inference_steps=job.steps, guidance_scale=GUIDANCE
    ).images[0]
    return {
        "kind": job.kind,
        "prompt": job.prompt,
        "seed": job.seed,
        "typicality": typicality(judge, image),
    }


def planted(guard: Guard, judge: Judge, job: Job) -> list[Row]:
    """Every setting from the same plain picture; no row where that is no copy, since nothing is then pushed."""
    rows: list[Row] = []
    probe = _Probe(guard, judge, job, rows)
    behind = Guard(
        guard.pipe, guard.filters, protected=guard.protected, alternatives=guard.alternatives, ladder=Ladder((probe,))
    )  # fmt: skip
    out = behind(
        job.prompt, generator=generator(job.seed), num_inference_steps=job.steps, guidance_scale=GUIDANCE
    )
    attempts = out.reports[0].attempts
    if attempts and len(rows) < len(MINIMISERS) * len(job.settings):
        raise RuntimeError(f"the sweep stopped at {len(rows)} rows: {attempts[0].stopped}")
    return rows


@dataclass(frozen=True)
class _Probe:
    """A rung that tries all settings on one task."""

    guard: Guard
    judge: Judge
    job: Job
    rows: list[Row]
    name: str = "stability"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        preferred = preferred_latents(task)
        preferred = task.clean[:0] if preferred is None else preferred
        for minimiser in MINIMISERS:
            for setting in self.job.settings:
                latent, values = pushed(minimiser, setting, task.clean, preferred, task.unwanted)
                row: Row = {
                    "kind": self.job.kind, "prompt": self.job.prompt, "seed": self.job.seed, "minimiser": minimiser,
                    **asdict(setting), **values,
                }  # fmt: skip
                if row["finite"]:
                    condition = task.condition()
                    if minimiser == "descent":
                        condition = nudged_condition(
                            task, alpha=setting.alpha, beta=setting.beta, gamma=HOLD * setting.gamma
                        )
                    made = task.runner.resume(
                        latent,
                        STRENGTH,
                        condition=condition,
                        kwargs=task.kwargs,
                        generator=task.torch_generator(seed),
                    )
                    row["finite"] = all(made.finite)
                    row |= self._seen(made.images[0])
                self.rows.append(row)
        made = task.runner.resume(
            task.clean,
            STRENGTH,
            condition=task.condition(),
            kwargs=task.kwargs,
            generator=task.torch_generator(seed),
        )
        return Candidate(made, "all settings tried")

    def _seen(self, image: Any) -> Row:
        return {
            **judged(self.judge, image, self.job.prompt, self.job.file), "typicality": typicality(self.judge, image),
            "copy": flagged(self.guard.check([image])[0]),
        }  # fmt: skip


def pushed(
    minimiser: str, setting: Setting, origin: Tensor, preferred: Tensor, unwanted: Tensor
) -> tuple[Tensor, Row]:
    """The latent (1, …) that a minimiser ends at, and what its numbers say: J before and after, its length × before."""
    value: Callable[[Tensor], float]
    if minimiser == "adam":
        paper = PaperNudge(
            STRENGTH, setting.rate, setting.iterations, setting.alpha, setting.beta, setting.gamma
        )
        latent = paper.nudged(origin, preferred, unwanted)
        value = lambda at: float(paper.objective(at, origin, preferred, unwanted))  # noqa: E731
    else:
        objective = Objective(
            preferred, unwanted, alpha=setting.alpha, beta=setting.beta, gamma=setting.gamma
        )
        latent = minimise(objective, origin, iterations=setting.iterations, rate=setting.rate)
        value = lambda at: float(objective(at, origin))  # noqa: E731
    with torch.no_grad():
        before, after = value(origin), value(latent)
    finite = bool(torch.isfinite(latent).all()) and math.isfinite(after)
    length = float(latent.norm() / origin.norm())
    return latent, {
        "finite": finite, "j_before": round(before, 4), "j_after": round(after, 4) if finite else None,
        "length": round(length, 4) if finite else None,
    }  # fmt: skip


@torch.no_grad()
def typicality(judge: Judge, image: Any) -> float:
    """CLIP cosine of a picture with the nearest picture of the training set, be it protected or ordinary."""
    embedding = judge.clip(fit(to_tensor([image]), judge.clip.size))
    return round(float((embedding @ judge.gallery.T).max()), 4)


def classified(row: Row, typical: float) -> Row:
    """The row with each fault named. A picture that was never made has no further fault."""
    diverged = quality = drifted = False
    if row["finite"]:
        low, high = LENGTHS
        diverged = row["j_after"] > row["j_before"] + TOLERANCE or not low <= row["length"] <= high
        quality = row["typicality"] < typical
        drifted = row["rank"] is not None and row["rank"] >= TOP
    return row | {
        "not_finite": not row["finite"], "diverged": diverged, "quality_lost": quality, "drifted": drifted,
    }  # fmt: skip


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The faults of each minimiser and setting, counted; whether it is safe, and what it is good for."""
    groups: dict[tuple[str, Setting], list[Row]] = {}
    names = [f.name for f in fields(Setting)]
    for row in rows:
        groups.setdefault((row["minimiser"], Setting(**{n: row[n] for n in names})), []).append(row)
    counts = {key: {fault: sum(r[fault] for r in mine) for fault in FAULTS} for key, mine in groups.items()}
    found = []
    for (minimiser, setting), mine in groups.items():
        own, default = counts[minimiser, setting], counts[minimiser, Setting()]
        seen = [r for r in mine if "typicality" in r]
        found.append({
            "minimiser": minimiser, **asdict(setting), "pictures": len(mine), **own, "safe": safe(own, default, len(mine)),
            "still_copies": share(r["copy"] for r in seen),
            "typicality": round(statistics.median(r["typicality"] for r in seen), 4) if seen else None,
        })  # fmt: skip
    return found


def safe(counts: Mapping[str, int], default: Mapping[str, int], pictures: int) -> bool:
    """Nothing that is not finite, nothing that diverged, and hardly more bad drawings and other things than by default."""
    never = counts["not_finite"] == counts["diverged"] == 0
    return never and all(
        counts[fault] <= default[fault] + MARGIN * pictures for fault in ("quality_lost", "drifted")
    )


def region(figures: Sequence[Mapping[str, Any]], minimiser: str) -> dict[str, list[float] | None]:
    """For each setting the least and the largest value that is safe, with all between that were tried, around the default
    with the others at theirs; None where the default is not."""
    found: dict[str, list[float] | None] = {}
    default = asdict(Setting())
    mine = [f for f in figures if f["minimiser"] == minimiser]
    for name in default:
        line = {f[name]: f["safe"] for f in mine if all(f[n] == v for n, v in default.items() if n != name)}
        values = sorted(line)
        if not line.get(default[name], False):
            found[name] = None
            continue
        low = high = values.index(default[name])
        while low and line[values[low - 1]]:
            low -= 1
        while high + 1 < len(values) and line[values[high + 1]]:
            high += 1
        found[name] = [values[low], values[high]]
    return found


def section(found: Mapping[str, Any]) -> list[str]:
    """The section's lines, without its title."""
    limits = found["limits"]
    lines = [
        f"The objective over the finished picture's latent, regenerated from {found['strength']:.0%} of the noise, one setting "
        "moved at a time and then several, on mascots' prompts. Counted are pictures that are",
        "",
        "- **not finite**: the latent, J or the regenerated picture holds a value that is no number;",
        f"- **diverged**: J ended above where it began by more than {limits['tolerance']:g}, or the latent's length lies outside "
        f"{limits['lengths'][0]:g} … {limits['lengths'][1]:g} times what it was;",
        f"- **quality lost**: less like any training picture, protected or ordinary, by the judge's CLIP, than "
        f"{1 - limits['typical']:.0%} of plain pictures of ordinary prompts are (cosine below {found['typical']:.3f});",
        f"- **drifted**: that CLIP does not rank the concept asked for among the first {limits['top']} of all names.",
        "",
        f"A setting is *safe* where nothing is not finite or diverged, and where no more pictures lost quality, and no more drifted, "
        f"than in the first line, the default, and {limits['margin']:.3g} of all. Safe is not yet good: *still copies* is the share "
        "that the guard's filters flag.",
    ]  # fmt: skip
    names = [f.name for f in fields(Setting)]
    for minimiser, words in found["minimisers"].items():
        rows = [
            [
                *(f"{s[n]:g}" for n in names), *(f"{s[fault]} of {s['pictures']}" for fault in FAULTS),
                percent(s["still_copies"]), "yes" if s["safe"] else "no",
            ]
            for s in found["settings"]
            if s["minimiser"] == minimiser
        ]  # fmt: skip
        head = [
            "iterations",
            "rate",
            "α",
            "β",
            "γ",
            *(f.replace("_", " ") for f in FAULTS),
            "still copies",
            "safe",
        ]
        lines += ["", f"**{minimiser}**, {words}:", "", *table(head, rows), ""]
        lines += [f"Safe region, the others at their defaults: {_region(found['safe'][minimiser])}."]
    return lines


def _region(safe: Mapping[str, Sequence[float] | None]) -> str:
    if all(span is None for span in safe.values()):
        return "none, since the default setting itself is not safe"
    spans = {name: span for name, span in safe.items() if span is not None}
    return "; ".join(f"{name} {low:g} … {high:g}" for name, (low, high) in spans.items())


def figure(found: Mapping[str, Any]) -> bytes:
    """The share of each fault against each setting, a line a minimiser and a row a fault."""
    shown = ("diverged", "quality_lost", "drifted", "still_copies")
    figure = drawing(2.6 * len(SWEEPS), 1.7 * len(shown))
    panels = figure.subplots(len(shown), len(SWEEPS), squeeze=False, sharey=True)
    default = asdict(Setting())
    for x, name in enumerate(SWEEPS):
        for y, fault in enumerate(shown):
            for minimiser, colour in zip(found["minimisers"], (COPIES, CLEAN), strict=True):
                mine = [
                    s
                    for s in found["settings"]
                    if s["minimiser"] == minimiser and all(s[n] == v for n, v in default.items() if n != name)
                ]
                line = sorted((s[name], _share(s, fault)) for s in mine)
                panels[y][x].plot(
                    range(len(line)), [v for _, v in line], "o-", color=colour, label=minimiser, alpha=0.8
                )
                panels[y][x].set_xticks(range(len(line)), [f"{at:g}" for at, _ in line], fontsize=7)
            panels[y][0].set_ylabel(fault.replace("_", " "), fontsize=8)
        panels[0][x].set_title(name, fontsize=9)
    panels[0][0].set_ylim(-0.05, 1.05)
    panels[0][0].legend(fontsize=7)
    return png(figure)


def _share(setting: Mapping[str, Any], fault: str) -> float:
    if fault == "still_copies":
        return setting[fault] if setting[fault] is not None else math.nan
    return float(setting[fault]) / float(setting["pictures"])
