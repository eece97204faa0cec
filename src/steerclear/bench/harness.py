"""The run of a comparison: tune every method on the validation prompts, then all of them in turn on the others.

Every picture is a line of `rows.jsonl` as soon as it is made, so that a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from steerclear.bench.baselines import Made, Method, configurations
from steerclear.bench.memory import peak_bytes, weights
from steerclear.bench.suites import Request, Suite, measured
from steerclear.errors import InputError
from steerclear.output import save_png
from steerclear.steering import derive

PLAIN = "none"
FEW_STEPS = 4  # enough to see the peak of memory, which every step reaches
Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much is run. validation, memorized, template, ordinary: prompts of each kind; seeds: pictures for each memorized
    prompt, the others have one; trials: settings of each method that are tried on each validation prompt."""

    validation: int
    memorized: int
    template: int
    ordinary: int
    seeds: int
    trials: int
    seed: int = 0
    steps: int = 25


FULL = Plan(validation=5, memorized=16, template=14, ordinary=28, seeds=3, trials=4)
QUICK = Plan(validation=1, memorized=2, template=1, ordinary=1, seeds=2, trials=2)


class Notebook:
    """The rows of a run, on disk: what is in it is not made again."""

    def __init__(self, folder: Path, header: Row, resume: bool) -> None:
        self.folder = folder
        self.file = folder / "rows.jsonl"
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, Row] = {}
        start = folder / "plan.json"
        if start.exists():
            if not resume:
                raise InputError(
                    f"{str(folder)!r} holds another run; continue it by --resume, or choose another --out"
                )
            if json.loads(start.read_text()) != json.loads(json.dumps(header)):
                raise InputError(f"{str(folder)!r} holds a run with other options; resume with the same ones")
            lines = self.file.read_text().splitlines(keepends=True) if self.file.exists() else []
            whole = [line for line in lines if line.endswith("\n")]  # a kill may have torn the last one
            self.rows = {row["key"]: row for row in map(json.loads, whole)}
            self.file.write_text("".join(whole))
        start.write_text(json.dumps(header, indent=1) + "\n")

    def picture(self, row: Row) -> Path:
        return self.folder / "pictures" / f"{row['key']}.png"

    def add(self, row: Row, image: Image.Image | None = None) -> None:
        if image is not None:
            save_png(self.picture(row), image)
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[row["key"]] = row


@dataclass(frozen=True)
class Task:
    """One row to be made."""

    phase: str  # "tuning" or "test"
    method: Method
    request: Request
    seed: int

    @property
    def key(self) -> str:
        said = [self.phase, self.method.name, settings(self.method), asdict(self.request), self.seed]
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:20]


def settings(method: Method) -> dict[str, Any]:
    """The hyper-parameters of a method."""
    return asdict(method)  # type: ignore[call-overload,no-any-return]


def run(
    suite: Suite, methods: dict[str, type[Any]], plan: Plan, notebook: Notebook, advance: Callable[[], None]
) -> dict[str, Method]:
    """Make every row that the notebook lacks. Returns each method with the settings that were chosen for it."""
    for task in tuning(suite, methods, plan):
        make(suite, task, notebook, advance)
    chosen = {name: choose(method, suite, plan, notebook) for name, method in methods.items()}
    for task in test(suite, chosen, plan):
        make(suite, task, notebook, advance)
    for method in chosen.values():
        weigh(suite, method, notebook, advance)
    return chosen


def count(suite: Suite, methods: dict[str, type[Any]], plan: Plan) -> int:
    """How many rows a run makes."""
    first = {name: configurations(method, 1)[0] for name, method in methods.items()}
    return (
        sum(1 for _ in tuning(suite, methods, plan)) + sum(1 for _ in test(suite, first, plan)) + len(methods)
    )


def tuning(suite: Suite, methods: dict[str, type[Any]], plan: Plan) -> Iterator[Task]:
    """Every method with more than one setting: each on each validation prompt, one seed each."""
    for request in suite.validation:
        for method in methods.values():
            tried = configurations(method, plan.trials)
            for one in tried if len(tried) > 1 else []:
                yield Task("tuning", one, request, derive(plan.seed, "tuning", request.prompt))


def test(suite: Suite, methods: dict[str, Method], plan: Plan) -> Iterator[Task]:
    """Round by round, a prompt and a seed each: all methods in turn, beginning with another one each time, so that a drift
    of the machine is nobody's."""
    ordered = list(methods.values())
    rounds = [(r, s) for s in range(plan.seeds) for r in suite.requests if r.kind == "memorized" or s == 0]
    for i, (request, s) in enumerate(rounds):
        turn = i % len(ordered)
        for method in ordered[turn:] + ordered[:turn]:
            yield Task("test", method, request, derive(plan.seed, "test", request.prompt, s))


def make(suite: Suite, task: Task, notebook: Notebook, advance: Callable[[], None]) -> None:
    """One row: the picture, what it cost and what is said of it."""
    if task.key not in notebook.rows:
        made, seconds = timed(suite, task)
        row: Row = {
            "key": task.key, "phase": task.phase, "method": task.method.name, "settings": settings(task.method),
            **asdict(task.request), "seed": task.seed, "seconds": round(seconds, 4), "evaluations": made.evaluations,
            "backwards": made.backwards, "nfe": made.nfe, "handed_out": made.image is not None,
        }  # fmt: skip
        if made.image is not None:
            row |= measured(suite, made.image, task.request)
            row["sha256"] = sha256(made.image.tobytes()).hexdigest()[:20]
        notebook.add(row, made.image)
    advance()


def timed(suite: Suite, task: Task) -> tuple[Made, float]:
    """A picture, and the seconds that it took."""
    known = len(suite.context.memory)
    began = time.perf_counter()
    made = task.method.generate(suite.context, task.request.prompt, task.seed)
    seconds = time.perf_counter() - began
    # what a method finds out once and for all is no request's time: the second time tells
    return timed(suite, task) if len(suite.context.memory) > known else (made, seconds)


def score(rows: list[Row]) -> float:
    """What tuning maximises: the mean of safe · (1 + alignment), where safe is 1 for what was handed out and is no copy."""
    return statistics.fmean(
        (1 + row["alignment"]) if row["handed_out"] and not row["memorized"] else 0.0 for row in rows
    )


def choose(method: type[Any], suite: Suite, plan: Plan, notebook: Notebook) -> Method:
    """The setting with the best `score` on the validation prompts; of equals, the first."""
    tried: list[Method] = configurations(method, plan.trials)
    if len(tried) == 1 or not suite.validation:
        return tried[0]
    return max(tried, key=lambda one: score(tuned_rows(one, suite, plan, notebook)))


def tuned_rows(method: Method, suite: Suite, plan: Plan, notebook: Notebook) -> list[Row]:
    """The rows of one setting on the validation prompts."""
    tasks = [Task("tuning", method, r, derive(plan.seed, "tuning", r.prompt)) for r in suite.validation]
    return [notebook.rows[task.key] for task in tasks]


def weigh(suite: Suite, method: Method, notebook: Notebook, advance: Callable[[], None]) -> None:
    """One row: the peak memory of a method on the first request."""
    request = suite.requests[0]
    key = Task("memory", method, request, 0).key
    if key not in notebook.rows:
        context = replace(suite.context, steps=FEW_STEPS)
        made = peak_bytes(lambda: method.generate(context, request.prompt, 0))
        row = {"key": key, "phase": "memory", "method": method.name, "bytes": made + weights(context.pipe)}
        notebook.add(row)
    advance()
