"""Stability: how far the objective's settings can move before it diverges, draws badly, or drifts away."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from steerclear.filters.base import flagged
from steerclear.generators.conditions import Condition
from steerclear.guard import Guard
from steerclear.nudge import Candidate, Ladder, SteerTask
from steerclear.nudge.condition import HOLD, nudged_condition
from steerclear.nudge.objective import Objective, minimise
from steerclear.nudge.prefer import preferred_latents
from steerclear.pixels import fit, to_tensor
from steerclear.steering import derive
from steerclear_lab.bench.baselines.paper import PaperNudge
from steerclear_lab.bench.experiments.common import (
    Options,
    Row,
    run_jobs,
    sample_prompts,
    torch_generator,
    verdict_fields,
)
from steerclear_lab.bench.experiments.stability_faults import (
    LENGTHS,
    MARGIN,
    TOLERANCE,
    TOP,
    TYPICAL,
    classified,
    safe_region,
    summary,
)
from steerclear_lab.bench.experiments.stability_page import figure, section
from steerclear_lab.bench.experiments.stability_settings import CORNERS, MINIMISERS, Setting, settings
from steerclear_lab.bench.intervals import quantile
from steerclear_lab.bench.judge import Judge

__all__ = ["TITLE", "figure", "measure", "section"]

TITLE = "Stability of the final-latent objective"
PROMPTS, ORDINARY = 12, 40  # planted prompts of mascots, ordinary prompts
GUIDANCE, STRENGTH = 4.0, 0.7


@dataclass(frozen=True, kw_only=True)
class Job:
    """One request.

    Attributes:
        kind: "planted" for all settings on it; "ordinary" for a plain picture, which shows what is well
            drawn.
        prompt: of the request.
        file: of the protected picture behind the prompt, or None.
        seed: of the request.
        steps: denoising steps.
        settings: that are tried.
    """

    kind: str
    prompt: str
    file: str | None
    seed: int
    steps: int
    settings: tuple[Setting, ...]


def measure(options: Options) -> dict[str, Any]:
    """One row for every setting, minimiser and request, and the figures of every setting."""
    tried = settings() if not options.quick else (Setting(), Setting(rate=10.0), CORNERS[-1])
    count = options.many(PROMPTS)
    ordinary = sample_prompts("ordinary", count=min(ORDINARY, 5 * count), seed=options.seed)
    planted = sample_prompts("planted", count=count, seed=options.seed, mascots=True)
    jobs = [
        Job(
            kind=kind,
            prompt=prompt,
            file=file,
            seed=derive(options.seed, "stability", prompt, s),
            steps=options.steps,
            settings=tried,
        )
        for kind, prompts in (("planted", planted), ("ordinary", ordinary))
        for prompt, file in prompts
        for s in range((options.seeds or 1) if kind == "planted" else 1)
    ]
    rows = run_jobs("stability", make_worker, jobs, processes=options.processes)
    plain = [r for r in rows if r["kind"] == "ordinary"]
    typical = quantile([r["typicality"] for r in plain], TYPICAL)
    nudged = [classified(r, typical) for r in rows if r["kind"] == "planted"]
    figures = summary(nudged)
    limits = {"tolerance": TOLERANCE, "lengths": LENGTHS, "typical": TYPICAL, "top": TOP, "margin": MARGIN}
    return {
        "guidance": GUIDANCE,
        "strength": STRENGTH,
        "typical": round(typical, 4),
        "limits": limits,
        "minimisers": MINIMISERS,
        "settings": figures,
        "safe": {minimiser: safe_region(figures, minimiser) for minimiser in MINIMISERS},
        "rows": nudged + plain,
    }


def make_worker() -> Callable[[Job], list[Row]]:
    """What runs the jobs of one process."""
    guard, judge = Guard.default(early=False), Judge()
    return lambda job: (
        planted_rows(guard, judge, job) if job.kind == "planted" else [ordinary_row(guard, judge, job)]
    )


def ordinary_row(guard: Guard, judge: Judge, job: Job) -> Row:
    """How typical a plain picture of an ordinary prompt is."""
    image = guard.pipe(job.prompt, **_call(job)).images[0]
    return {
        "kind": job.kind,
        "prompt": job.prompt,
        "seed": job.seed,
        "typicality": typicality(judge, image),
    }


def planted_rows(guard: Guard, judge: Judge, job: Job) -> list[Row]:
    """Every setting from the same plain picture; no rows where it is no copy, and nothing is nudged."""
    rows: list[Row] = []
    probe = _AllSettings(guard=guard, judge=judge, job=job, rows=rows)
    probed = Guard(
        guard.pipe,
        guard.filters,
        protected=guard.protected,
        alternatives=guard.alternatives,
        ladder=Ladder((probe,)),
    )
    attempts = probed(job.prompt, **_call(job)).reports[0].attempts
    if attempts and len(rows) < len(MINIMISERS) * len(job.settings):
        raise RuntimeError(f"the sweep stopped at {len(rows)} rows: {attempts[0].stopped}")
    return rows


def _call(job: Job) -> dict[str, Any]:
    """The arguments of a pipeline's call, but the prompt."""
    return {
        "generator": torch_generator(job.seed),
        "num_inference_steps": job.steps,
        "guidance_scale": GUIDANCE,
    }


@dataclass(frozen=True, kw_only=True)
class _AllSettings:
    """A strategy that tries all settings on one task, and notes a row for each."""

    guard: Guard
    judge: Judge
    job: Job
    rows: list[Row]
    name: str = "stability"

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """Try all settings; the candidate is the picture regenerated from the latent as it was."""
        preferred = preferred_latents(task)
        preferred = task.clean[:0] if preferred is None else preferred
        for minimiser in MINIMISERS:
            for setting in self.job.settings:
                self.rows.append(
                    self._row(task, seed=seed, minimiser=minimiser, setting=setting, preferred=preferred)
                )
        unchanged = self._resumed(task, seed=seed, latent=task.clean, condition=task.condition())
        return Candidate(unchanged, "all settings tried")

    def _row(self, task: SteerTask, seed: int, minimiser: str, setting: Setting, preferred: Tensor) -> Row:
        """What one setting gives."""
        latent, values = nudged_latent(
            minimiser, setting, origin=task.clean, preferred=preferred, unwanted=task.unwanted
        )
        row: Row = {
            "kind": self.job.kind,
            "prompt": self.job.prompt,
            "seed": self.job.seed,
            "minimiser": minimiser,
            **asdict(setting),
            **values,
        }
        if row["finite"]:
            condition = task.condition()
            if minimiser == "descent":
                condition = nudged_condition(
                    task, alpha=setting.alpha, beta=setting.beta, gamma=HOLD * setting.gamma
                )
            resumed = self._resumed(task, seed=seed, latent=latent, condition=condition)
            row["finite"] = all(resumed.finite)
            row |= self._measured(resumed.images[0])
        return row

    def _resumed(self, task: SteerTask, seed: int, latent: Tensor, condition: Condition) -> Any:
        """The pass that regenerates from a latent."""
        return task.runner.resume(
            latent,
            STRENGTH,
            condition=condition,
            kwargs=task.kwargs,
            generator=task.torch_generator(seed),
        )

    def _measured(self, image: Any) -> Row:
        """What is measured on a picture."""
        return {
            **verdict_fields(self.judge, image=image, prompt=self.job.prompt, file=self.job.file),
            "typicality": typicality(self.judge, image),
            "copy": flagged(self.guard.check([image])[0]),
        }


def nudged_latent(
    minimiser: str, setting: Setting, *, origin: Tensor, preferred: Tensor, unwanted: Tensor
) -> tuple[Tensor, Row]:
    """Minimise the objective from a latent.

    Args:
        minimiser: of MINIMISERS.
        setting: of the objective and the minimisation.
        origin: the latent (1, …).
        preferred: (D, …), may be empty.
        unwanted: (U, …), may be empty.

    Returns:
        The latent (1, …) at the end, and a row: whether it is finite, J before and after, and its length ×
        before.
    """
    value: Callable[[Tensor], Tensor]
    if minimiser == "adam":
        paper = PaperNudge(strength=STRENGTH, **asdict(setting))
        latent = paper.nudged(origin, preferred, unwanted)
        value = partial(paper.objective, origin=origin, preferred=preferred, unwanted=unwanted)
    else:
        objective = Objective(
            preferred, unwanted, alpha=setting.alpha, beta=setting.beta, gamma=setting.gamma
        )
        latent = minimise(objective, origin, iterations=setting.iterations, rate=setting.rate)
        value = partial(objective, origin=origin)
    with torch.no_grad():
        before, after = float(value(origin)), float(value(latent))
    finite = bool(torch.isfinite(latent).all()) and math.isfinite(after)
    length = float(latent.norm() / origin.norm())
    return latent, {
        "finite": finite,
        "j_before": round(before, 4),
        "j_after": round(after, 4) if finite else None,
        "length": round(length, 4) if finite else None,
    }


@torch.no_grad()
def typicality(judge: Judge, image: Any) -> float:
    """The CLIP cosine of a picture with the nearest picture of the training set, protected or ordinary."""
    embedding = judge.clip(fit(to_tensor([image]), judge.clip.size))
    return round(float((embedding @ judge.gallery.T).max()), 4)
