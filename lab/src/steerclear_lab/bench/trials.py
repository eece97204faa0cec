"""Trials of single strategies: a planted request, with one strategy as the only rung, judged."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256

from PIL import Image

from steerclear.embedded import read_prompts
from steerclear.filters.base import flagged
from steerclear.guard import Guard
from steerclear.nudge.base import Candidate, SteerTask, Strategy
from steerclear.nudge.ladder import Ladder
from steerclear.pixels import to_image
from steerclear_lab.assets import ASSETS
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.judge import Judge, ordinary_pictures, verdict_row
from steerclear_lab.bench.sampling import SETTINGS, generator

FIRST_SEED = 50_000
PLAIN = "plain pipeline"


@dataclass(frozen=True)
class Trial:
    """One request under one strategy.

    Attributes:
        label: what the row is called in the tables.
        strategy: the only rung; None for the plain pipeline.
        prompt: a planted prompt.
        file: the protected picture behind it.
        seed: of the request.
        prefer: how the guard chooses the pull target, as `Guard` takes it.
        texts: texts that are preferred.
        picture_prefix: beginning of the names of ordinary pictures that are preferred, such as "flat-"; ""
            for all of them, None for none.
    """

    label: str
    strategy: Strategy | None
    prompt: str = ""
    file: str | None = None
    seed: int = FIRST_SEED
    prefer: str = "text"
    texts: tuple[str, ...] = ()
    picture_prefix: str | None = None


@dataclass(frozen=True)
class RecordingStrategy:
    """A strategy that keeps its candidates.

    Attributes:
        strategy: what makes them.
        candidates: all that it has made.
    """

    strategy: Strategy
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.strategy.name

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """The strategy's candidate."""
        self.candidates.append(self.strategy.apply(task, seed))
        return self.candidates[-1]


@cache
def guard_and_judge() -> tuple[Guard, Judge]:
    """The embedded model's guard and the judge, loaded once per process."""
    return Guard.default(), Judge()


@cache
def ordinary_named(prefix: str) -> tuple[Image.Image, ...]:
    """The ordinary pictures whose names begin with a prefix."""
    names = json.loads((ASSETS / "ordinary.json").read_text())["keys"]
    pictures = zip(names, ordinary_pictures(), strict=True)
    return tuple(to_image(picture) for name, picture in pictures if name.startswith(prefix))


def trials(kinds: Sequence[Trial], seeds: int, prompts: int | None = None) -> list[Trial]:
    """Each kind of trial on planted prompts.

    Args:
        kinds: trials without prompt, file and seed.
        seeds: how many seeds of each prompt.
        prompts: how many prompts, spread evenly over the list; None for all.
    """
    planted = read_prompts("planted")
    chosen = planted if prompts is None else planted[:: max(1, len(planted) // prompts)][:prompts]
    return [
        replace(kind, prompt=prompt, file=file, seed=FIRST_SEED + s)
        for prompt, file in chosen
        for s in range(seeds)
        for kind in kinds
    ]


def attempt(trial: Trial) -> tuple[Row, Image.Image | None]:
    """Run a trial.

    Returns:
        Its row, and the picture that passed, if any.
    """
    guard, judge = guard_and_judge()
    row: Row = {"label": trial.label, "prompt": trial.prompt, "file": trial.file, "seed": trial.seed}
    picture: Image.Image | None
    if trial.strategy is None:
        result, picture = _plain(guard, trial)
    else:
        result, picture = _steered(guard, trial, trial.strategy)
    row |= result
    if picture is not None:
        assert trial.strategy is None or not flagged(guard.check([picture])[0])
        row |= verdict_row(judge(picture, trial.prompt, trial.file))
        row["style"] = judge.style_kept(picture, trial.file)
        row["sha256"] = sha256(picture.tobytes()).hexdigest()[:16]
    return row, picture


def _plain(guard: Guard, trial: Trial) -> tuple[Row, Image.Image]:
    began = time.monotonic()
    picture = guard.pipe(trial.prompt, generator=generator(trial.seed), **SETTINGS).images[0]
    seconds = round(time.monotonic() - began, 3)
    row = {"outcome": "plain", "overhead": 1.0, "rung_nfe": 1.0, "seconds": seconds, "said": None}
    return row, picture


def _steered(guard: Guard, trial: Trial, strategy: Strategy) -> tuple[Row, Image.Image | None]:
    recording = RecordingStrategy(strategy)
    guard.ladder = Ladder((recording,))
    guard.prefer, guard.preferred = trial.prefer, trial.texts
    if trial.picture_prefix is not None:
        guard.preferred = ordinary_named(trial.picture_prefix)
    output = guard(trial.prompt, generator=generator(trial.seed), **SETTINGS)
    report = output.reports[0]
    rung = report.attempts[0] if report.attempts else None
    descents = [descent for candidate in recording.candidates for descent in candidate.descents]
    row: Row = {
        "outcome": str(report.outcome),
        "overhead": round(report.overhead, 3),
        "rung_nfe": round(rung.nfe / report.nfe_plain, 3) if rung else 0.0,
        "seconds": round(rung.seconds, 3) if rung else 0.0,
        "said": rung.stopped if rung else None,
        "iterations": sum(d.iterations for d in descents),
        "halved": sum(d.halved for d in descents),
        "ended": [d.why for d in descents],
        "J": [round(d.value, 5) if math.isfinite(d.value) else None for d in descents],
    }
    return row, output.images[0]
