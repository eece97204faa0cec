"""What the benchmarks of single strategies share: one planted request under one strategy, judged; its figures, table and sheet."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from steerclear.embedded import PROTECTED_FOLDER, read_prompts
from steerclear.filters.base import flagged
from steerclear.guard import Guard
from steerclear.nudge.base import Candidate, SteerTask, Strategy
from steerclear.nudge.ladder import Ladder
from steerclear.pixels import to_image
from steerclear_lab.assets import ASSETS
from steerclear_lab.bench.intervals import interval
from steerclear_lab.bench.judge import Judge, ordinary_pictures
from steerclear_lab.bench.main_job import GUIDANCE, STEPS, generator, save_sheet, vars_of
from steerclear_lab.bench.main_job import arguments as benchmark_arguments

FIRST_SEED = 50_000
TOP = 5  # a concept counts as kept where the judge ranks it among this many
PLAIN = "plain pipeline"
Row = dict[str, Any]


def arguments(about: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark of strategies."""
    parser = benchmark_arguments(about, seeds=1)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--processes", type=int, default=1)
    return parser


def options(args: argparse.Namespace) -> list[str]:
    """What was said on it, for the page."""
    return [
        word for name in ("seeds", "prompts", "processes") for word in (f"--{name}", str(getattr(args, name)))
    ]


@dataclass(frozen=True)
class Trial:
    """One request. strategy: the only rung, None for the plain pipeline; prefer, texts, shelf: what pulls, as `Guard` takes it.

    shelf: beginning of the names of ordinary pictures that are preferred, such as "flat-"; "" for all of them.
    """

    label: str
    strategy: Strategy | None
    prompt: str = ""
    file: str | None = None
    seed: int = FIRST_SEED
    prefer: str = "text"
    texts: tuple[str, ...] = ()
    shelf: str | None = None


@dataclass(frozen=True)
class Watched:
    """A strategy whose candidates are kept."""

    strategy: Strategy
    seen: list[Candidate] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.strategy.name

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        self.seen.append(self.strategy.apply(task, seed))
        return self.seen[-1]


@cache
def tools() -> tuple[Guard, Judge]:
    """The embedded model's guard and the judge, once a process."""
    return Guard.default(), Judge()


@cache
def shelf(prefix: str) -> tuple[Image.Image, ...]:
    """The ordinary pictures whose names begin so."""
    names = json.loads((ASSETS / "ordinary.json").read_text())["keys"]
    return tuple(to_image(p) for n, p in zip(names, ordinary_pictures(), strict=True) if n.startswith(prefix))


def trials(kinds: Sequence[Trial], seeds: int, prompts: int | None = None) -> list[Trial]:
    """Each kind on every planted prompt and seed; prompts: on so many, spread evenly over the list."""
    planted = read_prompts("planted")
    chosen = planted if prompts is None else planted[:: max(1, len(planted) // prompts)][:prompts]
    return [
        Trial(k.label, k.strategy, prompt, file, FIRST_SEED + s, k.prefer, k.texts, k.shelf)
        for prompt, file in chosen for s in range(seeds) for k in kinds
    ]  # fmt: skip


def attempt(trial: Trial) -> tuple[Row, Image.Image | None]:
    """The row of one trial, and the picture that passed."""
    guard, judge = tools()
    settings: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE}
    row: Row = {"label": trial.label, "prompt": trial.prompt, "file": trial.file, "seed": trial.seed}
    if trial.strategy is None:
        began = time.monotonic()
        image = guard.pipe(trial.prompt, generator=generator(trial.seed), **settings).images[0]
        seconds = round(time.monotonic() - began, 3)
        row |= {"outcome": "plain", "overhead": 1.0, "rung_nfe": 1.0, "seconds": seconds, "said": None}
    else:
        rung = Watched(trial.strategy)
        guard.ladder = Ladder((rung,))
        guard.prefer, guard.preferred = trial.prefer, trial.texts
        if trial.shelf is not None:
            guard.preferred = shelf(trial.shelf)
        out = guard(trial.prompt, generator=generator(trial.seed), **settings)
        image, report = out.images[0], out.reports[0]
        done = report.attempts[0] if report.attempts else None
        went = [d for candidate in rung.seen for d in candidate.descents]
        row |= {
            "outcome": str(report.outcome), "overhead": round(report.overhead, 3),
            "rung_nfe": round(done.nfe / report.nfe_plain, 3) if done else 0.0,
            "seconds": round(done.seconds, 3) if done else 0.0, "said": done.stopped if done else None,
            "iterations": sum(d.iterations for d in went), "halved": sum(d.halved for d in went),
            "ended": [d.why for d in went], "J": [round(d.value, 5) if math.isfinite(d.value) else None for d in went],
        }  # fmt: skip
    if image is not None:
        assert trial.strategy is None or not flagged(guard.check([image])[0])
        row |= vars_of(judge(image, trial.prompt, trial.file))
        row["style"] = judge.style_kept(image, trial.file)
        row["sha256"] = sha256(image.tobytes()).hexdigest()[:16]
    return row, image


def figures(rows: Iterable[Row]) -> Row:
    """Of the rows of one label: shares and means with 95 % intervals over prompts, as [value, low, high], and medians of cost.

    passed: of the flagged requests; served: of those for a mascot, that ended with a picture of its concept, which the judge
    does not take for a protected one. The others are of the pictures that passed.
    """
    mine = [r for r in rows if r["outcome"] != "clear"]
    out = [r for r in mine if r["outcome"] in ("steered", "plain")]
    named = [r for r in mine if str(r["file"]).startswith("mascot-")]

    def of(some: list[Row], value: Any, share: bool = True) -> list[float] | None:
        grouped: dict[str, list[float]] = defaultdict(list)
        for row in some:
            found = value(row)
            if found is not None:
                grouped[row["prompt"]].append(float(found))
        bounds = interval(grouped, share=share)
        mean = statistics.fmean(statistics.fmean(v) for v in grouped.values()) if grouped else 0.0
        return None if bounds is None else [round(x, 4) for x in (mean, *bounds)]

    def kept(row: Row) -> bool:
        return row.get("rank") is not None and row["rank"] < TOP

    return {
        "flagged": len(mine), "prompts": len({r["prompt"] for r in mine}),
        "passed": of(mine, lambda r: r["outcome"] == "steered"),
        "served": of(named, lambda r: kept(r) and not r["same_picture"]),
        "concept_top5": of([r for r in out if r["rank"] is not None], kept),
        "concept": of(out, lambda r: r["concept"], share=False),
        "alignment": of(out, lambda r: r["alignment"], share=False),
        "bystander": of(out, lambda r: r["bystander"], share=False), "style": of(out, lambda r: r["style"]),
        "same_picture": of(out, lambda r: r["same_picture"]),
        "overhead": _median(mine, "overhead"), "rung_nfe": _median(mine, "rung_nfe"), "seconds": _median(mine, "seconds"),
    }  # fmt: skip


def by_label(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """In the order in which the labels first appear."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["label"], []).append(row)
    return found


def table(found: Mapping[str, Row], columns: Mapping[str, str], first: str) -> list[str]:
    """Markdown lines. found: figures by label; columns: key → title; an interval stands in brackets."""
    lines = [f"| {first} | {' | '.join(columns.values())} |", "|" + "---|" * (len(columns) + 1)]
    return lines + [
        f"| {name} | " + " | ".join(_cell(f.get(key)) for key in columns) + " |" for name, f in found.items()
    ]


def sheet(pictures: Mapping[tuple[str, str], Image.Image | None], labels: Sequence[str], path: Path) -> None:
    """A row per prompt: what is protected, then a column per label, numbered; grey where nothing passed.

    pictures: by (prompt, label).
    """
    files = {p: f for p, f in read_prompts("planted") if any((p, label) in pictures for label in labels)}
    size, top = 66, 14
    canvas = Image.new("RGB", ((1 + len(labels)) * size, top + len(files) * size), "lightgrey")
    draw = ImageDraw.Draw(canvas)
    for x in range(len(labels)):
        draw.text(((x + 1) * size + 24, 1), str(x + 1), "black")
    for y, (prompt, file) in enumerate(files.items()):
        with Image.open(PROTECTED_FOLDER / str(file)) as protected:
            canvas.paste(protected.convert("RGB"), (0, top + y * size))
        for x, label in enumerate(labels, 1):
            picture = pictures.get((prompt, label))
            if picture is not None:
                canvas.paste(picture, (x * size, top + y * size))
    save_sheet(canvas, path)


def numbered(labels: Iterable[str]) -> str:
    """What the columns of a sheet are."""
    return "; ".join(f"{i} {label}" for i, label in enumerate(labels, 1))


def _median(rows: list[Row], key: str) -> float | None:
    return round(statistics.median(r[key] for r in rows), 3) if rows else None


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{value[0]:.2f} ({value[1]:.2f}–{value[2]:.2f})"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
