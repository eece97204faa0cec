"""The run of a comparison: tunes every method on validation prompts, then tests all in turn on the others."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from steerclear.steering import derive
from steerclear_lab.bench import suites
from steerclear_lab.bench.baselines import METHODS, Method, configurations
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.memory import peak_bytes, weight_bytes
from steerclear_lab.bench.notebook import Notebook
from steerclear_lab.bench.suites import Request, Suite, measured

PLAIN = "none"
FEW_STEPS = 4  # enough to see the peak of memory, which every step reaches
Output = TypeVar("Output")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is run.

    Attributes:
        validation: memorized prompts for tuning.
        memorized: memorized prompts for the test.
        template: paraphrased prompts for the test.
        ordinary: ordinary prompts for the test.
        seeds: pictures for each memorized prompt; the others have one.
        trials: settings of each method that are tried on each validation prompt.
        seed: of splits, choices and pictures.
        steps: denoising steps.
    """

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


def emoji_suite(plan: Plan, work: Path, sscd: Path | None = None) -> Callable[[], Suite]:
    """What makes the embedded model's suite for a plan, in this process or in another one.

    Args:
        plan: how much is run.
        work: see `suites.emoji`.
        sscd: see `suites.emoji`.
    """
    return partial(
        suites.emoji,
        validation=plan.validation,
        memorized=plan.memorized,
        template=plan.template,
        ordinary=plan.ordinary,
        seed=plan.seed,
        steps=plan.steps,
        work=work,
        sscd=sscd,
    )


@dataclass(frozen=True)
class BenchTask:
    """One row to be made.

    Attributes:
        phase: "tuning", "test" or "memory".
        method: a method with its settings.
        request: what it is asked for.
        seed: of the picture.
    """

    phase: str
    method: Method
    request: Request
    seed: int

    @property
    def key(self) -> str:
        """A short hash of all that decides the row."""
        parts = [self.phase, self.method.name, settings(self.method), asdict(self.request), self.seed]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


TaskResult = tuple[Row, Image.Image | None]
MakeRows = Callable[[list[list[BenchTask]]], Iterable[TaskResult]]


def settings(method: Method) -> dict[str, Any]:
    """The hyper-parameters of a method."""
    return asdict(method)  # type: ignore[call-overload,no-any-return]


def run(
    *,
    suite: Suite,
    methods: dict[str, type[Any]],
    plan: Plan,
    notebook: Notebook,
    advance: Callable[[], None],
    make: MakeRows | None = None,
) -> dict[str, Method]:
    """Make every row that the notebook lacks.

    Args:
        suite: what is compared on.
        methods: classes of methods, by name.
        plan: how much is run.
        notebook: where the rows are kept.
        advance: called for each row, made or already there.
        make: makes the rows of groups of tasks; each group stays in one process, and all tuning comes before
            the first test. By default this process makes them, one after the other; see `Workers`.

    Returns:
        Each method with the settings that were chosen for it.
    """
    make = make or (lambda groups: (run_task(suite, task) for group in groups for task in group))
    tuning = [[task] for task in tuning_tasks(suite, methods, plan)]
    make_missing(tuning, notebook, make, advance=advance)
    chosen = {name: choose(method, suite, plan, notebook=notebook) for name, method in methods.items()}
    rounds = evaluation_rounds(suite, chosen, plan)
    make_missing(rounds, notebook, make, advance=advance)
    memory = [[BenchTask("memory", method, request=suite.requests[0], seed=0)] for method in chosen.values()]
    make_missing(memory, notebook, make, advance=advance)
    notebook.sort([task.key for groups in (tuning, rounds, memory) for group in groups for task in group])
    return chosen


def make_missing(
    groups: list[list[BenchTask]], notebook: Notebook, make_rows: MakeRows, *, advance: Callable[[], None]
) -> None:
    """Make and write down what the notebook lacks of these tasks."""
    keys = set(notebook.rows)
    missing = []
    for group in groups:
        missing_in_group = []
        for task in group:
            if task.key in keys:
                advance()
            else:
                missing_in_group.append(task)
            keys.add(task.key)
        missing += [missing_in_group] if missing_in_group else []
    for row, picture in make_rows(missing):
        notebook.add(row, picture)
        advance()


def count(suite: Suite, methods: dict[str, type[Any]], plan: Plan) -> int:
    """How many rows a run makes."""
    first = {name: configurations(method, 1)[0] for name, method in methods.items()}
    tuning = sum(1 for _ in tuning_tasks(suite, methods, plan))
    test = sum(len(group) for group in evaluation_rounds(suite, first, plan))
    return tuning + test + len(methods)


def tuning_tasks(suite: Suite, methods: dict[str, type[Any]], plan: Plan) -> Iterator[BenchTask]:
    """Every method with more than one setting: each setting on each validation prompt, with one seed."""
    for request in suite.validation:
        seed = derive(plan.seed, "tuning", request.prompt)
        for method in methods.values():
            candidates = configurations(method, plan.trials)
            for candidate in candidates if len(candidates) > 1 else []:
                yield BenchTask("tuning", candidate, request=request, seed=seed)


def evaluation_rounds(suite: Suite, methods: dict[str, Method], plan: Plan) -> list[list[BenchTask]]:
    """The tasks of the test, round by round, a prompt and a seed each.

    All methods take turns, and each round begins with another one, so that a drift of the machine favours
    none.
    """
    ordered = list(methods.values())
    requests = [(r, s) for s in range(plan.seeds) for r in suite.requests if r.kind == "memorized" or s == 0]
    rounds = []
    for i, (request, s) in enumerate(requests):
        first, seed = i % len(ordered), derive(plan.seed, "test", request.prompt, s)
        turns = ordered[first:] + ordered[:first]
        rounds.append([BenchTask("test", method, request=request, seed=seed) for method in turns])
    return rounds


def run_task(suite: Suite, task: BenchTask) -> TaskResult:
    """Make one row.

    Returns:
        What was made, what it cost and how it is judged; and the picture.
    """
    if task.phase == "memory":
        return peak_memory(suite, task), None
    generate = partial(task.method.generate, suite.context, task.request.prompt, task.seed)
    output, seconds = timed(suite, generate)
    row: Row = {
        "key": task.key,
        "phase": task.phase,
        "method": task.method.name,
        "settings": settings(task.method),
        **asdict(task.request),
        "seed": task.seed,
        "seconds": round(seconds, 4),
        "evaluations": output.evaluations,
        "backwards": output.backwards,
        "nfe": output.nfe,
        "handed_out": output.image is not None,
    }
    if output.image is not None:
        row |= measured(suite, output.image, task.request)
        row["sha256"] = sha256(output.image.tobytes()).hexdigest()[:20]
    return row, output.image


def task_runner(build: Callable[[], Suite]) -> Callable[[BenchTask], TaskResult]:
    """`run_task` for a process of its own.

    Args:
        build: makes the suite there. Its first picture is thrown away, since the first takes longer.
    """
    suite = build()
    METHODS[PLAIN]().generate(suite.context, suite.requests[0].prompt, 0)
    return partial(run_task, suite)


def timed(suite: Suite, generate: Callable[[], Output]) -> tuple[Output, float]:
    """A method's output, and the seconds that it took.

    What a method measures once and for all is no request's time: where it did, it is timed again.
    """
    remembered = len(suite.context.memory)
    began = time.perf_counter()
    output = generate()
    seconds = time.perf_counter() - began
    return timed(suite, generate) if len(suite.context.memory) > remembered else (output, seconds)


def score(rows: list[Row]) -> float:
    """What tuning maximises: the mean of safe · (1 + alignment), safe being 1 if handed out and no copy."""
    return statistics.fmean(
        (1 + row["alignment"]) if row["handed_out"] and not row["memorized"] else 0.0 for row in rows
    )


def choose(method: type[Any], suite: Suite, plan: Plan, *, notebook: Notebook) -> Method:
    """The setting with the best `score` on the validation prompts; of equals, the first."""
    candidates: list[Method] = configurations(method, plan.trials)
    if len(candidates) == 1 or not suite.validation:
        return candidates[0]
    return max(candidates, key=lambda candidate: score(tuned_rows(candidate, suite, plan, notebook=notebook)))


def tuned_rows(method: Method, suite: Suite, plan: Plan, *, notebook: Notebook) -> list[Row]:
    """The rows of one setting on the validation prompts."""
    tasks = [
        BenchTask("tuning", method, request=request, seed=derive(plan.seed, "tuning", request.prompt))
        for request in suite.validation
    ]
    return [notebook.rows[task.key] for task in tasks]


def peak_memory(suite: Suite, task: BenchTask) -> Row:
    """The peak memory of a method on one request, the second time, without what it keeps from the first."""
    context = replace(suite.context, steps=FEW_STEPS, memory={})
    generate = partial(task.method.generate, context, task.request.prompt, task.seed)
    generate()
    peak = peak_bytes(generate)
    method = task.method.name
    return {
        "key": task.key,
        "phase": task.phase,
        "method": method,
        "bytes": peak + weight_bytes(context.pipe),
    }
