"""The run of a comparison: tune every method on the validation prompts, then all of them in turn on the others.

Every picture is a line of `rows.jsonl` as soon as it is made, so that a run that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from steerclear.errors import InputError
from steerclear.output import save_png
from steerclear.steering import derive
from steerclear_lab.bench.baselines import METHODS, Method, MethodOutput, configurations
from steerclear_lab.bench.memory import peak_bytes, weights
from steerclear_lab.bench.suites import Request, Suite, measured

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


FULL = Plan(validation=5, memorized=16, template=24, ordinary=28, seeds=3, trials=4)
QUICK = Plan(validation=1, memorized=2, template=1, ordinary=1, seeds=2, trials=2)


class Notebook:
    """The rows of a run, on disk: what is in it is not made again.

    header: what decides the rows, which must be the same when the run is resumed; processes: how many make them, which may be
    another number then: `self.processes` holds all that there were.
    """

    def __init__(self, folder: Path, header: Row, resume: bool, processes: int = 1) -> None:
        self.folder = folder
        self.file = folder / "rows.jsonl"
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        self.rows: dict[str, Row] = {}
        self.processes: list[int] = []
        start = folder / "plan.json"
        if start.exists():
            if not resume:
                raise InputError(
                    f"{str(folder)!r} holds another run; continue it by --resume, or choose another --out"
                )
            found = json.loads(start.read_text())
            self.processes = found.pop("processes", [1])
            if found != json.loads(json.dumps(header)):
                raise InputError(f"{str(folder)!r} holds a run with other options; resume with the same ones")
            lines = self.file.read_text().splitlines(keepends=True) if self.file.exists() else []
            whole = [line for line in lines if line.endswith("\n")]  # a kill may have torn the last one
            self.rows = {row["key"]: row for row in map(json.loads, whole)}
            self.file.write_text("".join(whole))
        if processes not in self.processes:
            self.processes.append(processes)
        start.write_text(json.dumps({**header, "processes": self.processes}, indent=1) + "\n")

    def picture(self, row: Row) -> Path:
        return self.folder / "pictures" / f"{row['key']}.png"

    def add(self, row: Row, image: Image.Image | None = None) -> None:
        if image is not None:
            save_png(self.picture(row), image)
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.rows[row["key"]] = row

    def sort(self, keys: Iterable[str]) -> None:
        """Bring the rows into this order, whichever was made first."""
        self.rows = {**{key: self.rows[key] for key in keys}, **self.rows}


@dataclass(frozen=True)
class Task:
    """One row to be made."""

    phase: str  # "tuning", "test" or "memory"
    method: Method
    request: Request
    seed: int

    @property
    def key(self) -> str:
        said = [self.phase, self.method.name, settings(self.method), asdict(self.request), self.seed]
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:20]


Answer = tuple[Row, Image.Image | None]
Maker = Callable[[list[list[Task]]], Iterable[Answer]]


def settings(method: Method) -> dict[str, Any]:
    """The hyper-parameters of a method."""
    return asdict(method)  # type: ignore[call-overload,no-any-return]


def run(
    suite: Suite, methods: dict[str, type[Any]], plan: Plan, notebook: Notebook, advance: Callable[[], None],
    make: Maker | None = None,
) -> dict[str, Method]:  # fmt: skip
    """Make every row that the notebook lacks. Returns each method with the settings that were chosen for it.

    make: who makes them, by default this process, one after the other; see `Workers`. It is given groups of tasks, of which
    each stays in one process, and the tuning before the first test.
    """
    make = make or (lambda groups: (answer(suite, task) for group in groups for task in group))
    tried = [[task] for task in tuning(suite, methods, plan)]
    fill(tried, notebook, make, advance)
    chosen = {name: choose(method, suite, plan, notebook) for name, method in methods.items()}
    tested = rounds(suite, chosen, plan)
    fill(tested, notebook, make, advance)
    weighed = [[Task("memory", method, suite.requests[0], 0)] for method in chosen.values()]
    fill(weighed, notebook, make, advance)
    notebook.sort([task.key for groups in (tried, tested, weighed) for group in groups for task in group])
    return chosen


def fill(groups: list[list[Task]], notebook: Notebook, make: Maker, advance: Callable[[], None]) -> None:
    """Make and write down what the notebook lacks of these tasks."""
    seen = set(notebook.rows)
    missing = []
    for group in groups:
        lacking = []
        for task in group:
            if task.key in seen:
                advance()
            else:
                lacking.append(task)
            seen.add(task.key)
        missing += [lacking] if lacking else []
    for row, image in make(missing):
        notebook.add(row, image)
        advance()


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
    """The tasks of all `rounds`."""
    return (task for group in rounds(suite, methods, plan) for task in group)


def rounds(suite: Suite, methods: dict[str, Method], plan: Plan) -> list[list[Task]]:
    """Round by round, a prompt and a seed each: all methods in turn, beginning with another one each time, so that a drift
    of the machine is nobody's."""
    ordered = list(methods.values())
    asked = [(r, s) for s in range(plan.seeds) for r in suite.requests if r.kind == "memorized" or s == 0]
    found = []
    for i, (request, s) in enumerate(asked):
        turn, seed = i % len(ordered), derive(plan.seed, "test", request.prompt, s)
        found.append([Task("test", method, request, seed) for method in ordered[turn:] + ordered[:turn]])
    return found


def answer(suite: Suite, task: Task) -> Answer:
    """One row, of what was made, what it cost and what is said of it; and the picture."""
    if task.phase == "memory":
        return weighed(suite, task), None
    made, seconds = timed(suite, task)
    row: Row = {
        "key": task.key, "phase": task.phase, "method": task.method.name, "settings": settings(task.method),
        **asdict(task.request), "seed": task.seed, "seconds": round(seconds, 4), "evaluations": made.evaluations,
        "backwards": made.backwards, "nfe": made.nfe, "handed_out": made.image is not None,
    }  # fmt: skip
    if made.image is not None:
        row |= measured(suite, made.image, task.request)
        row["sha256"] = sha256(made.image.tobytes()).hexdigest()[:20]
    return row, made.image


def answering(build: Callable[[], Suite]) -> Callable[[Task], Answer]:
    """What answers tasks in a process of its own, with a suite that it builds itself; its first picture is nobody's, since the
    first takes longer."""
    suite = build()
    METHODS[PLAIN]().generate(suite.context, suite.requests[0].prompt, 0)
    return partial(answer, suite)


def timed(suite: Suite, task: Task) -> tuple[MethodOutput, float]:
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


def weighed(suite: Suite, task: Task) -> Row:
    """The peak memory of a method on one request, the second time: what is kept from the first is none of it."""
    context = replace(suite.context, steps=FEW_STEPS, memory={})
    task.method.generate(context, task.request.prompt, task.seed)
    made = peak_bytes(lambda: task.method.generate(context, task.request.prompt, task.seed))
    method = task.method.name
    return {"key": task.key, "phase": task.phase, "method": method, "bytes": made + weights(context.pipe)}
