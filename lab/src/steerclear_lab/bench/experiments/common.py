"""What the experiments share: their options, the processes that make the rows, and shares and percentages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from steerclear.embedded import read_prompts
from steerclear.steering import derive
from steerclear_lab.bench.judge import Judge, verdict_row
from steerclear_lab.bench.workers import spread

Row = dict[str, Any]
Worker = Callable[[Any], list[Row]]


@dataclass(frozen=True)
class Options:
    """How an experiment is run.

    Attributes:
        out: folder of the report.
        seed: of the run; all others are derived from it.
        steps: denoising steps.
        processes: how many make the rows.
        quick: whether as little is run as shows that it works.
        prompts: of each kind; None for the experiment's own number.
        seeds: of each prompt; None for the experiment's own number.
        rows: a finished comparison, its folder or its `rivals.json`, for experiments that need no other rows.
        work: folder where an unfinished comparison is kept.
    """

    out: Path
    seed: int = 0
    steps: int = 25
    processes: int = 1
    quick: bool = False
    prompts: int | None = None
    seeds: int | None = None
    rows: Path | None = None
    work: Path = Path("runs/experiments")

    def many(self, full: int) -> int:
        """How many prompts are run, where the experiment's own number is `full`."""
        return self.prompts or (min(2, full) if self.quick else full)

    def words(self) -> list[str]:
        """The options that the figures depend on, as they are typed."""
        values = {
            "--seed": self.seed,
            "--steps": self.steps if self.steps != 25 else None,
            "--memorized": self.prompts,
            "--seeds": self.seeds,
            "--processes": self.processes if self.processes != 1 else None,
        }
        words = ["--quick"] if self.quick else []
        return words + [word for name, value in values.items() if value for word in (name, str(value))]


def run_jobs(
    title: str, make_worker: Callable[[], Worker], jobs: Sequence[Any], *, processes: int
) -> list[Row]:
    """Run jobs in some processes.

    Args:
        title: of the progress bar.
        make_worker: a function of a module; called once in each process, it returns the function that runs a
            job.
        jobs: what is run.
        processes: how many run them.

    Returns:
        The rows of all jobs, in their order.
    """
    return [
        row
        for rows in spread(partial(_run_job, make_worker), jobs=jobs, processes=processes, description=title)
        for row in rows
    ]


def _run_job(make_worker: Callable[[], Worker], job: Any) -> list[Row]:
    """The rows of one job, in this process."""
    return _worker(make_worker)(job)


@lru_cache(maxsize=1)
def _worker(make_worker: Callable[[], Worker]) -> Worker:
    """The worker of this process, made at its first job."""
    silence_libraries()
    return make_worker()


def silence_libraries() -> None:
    """Keep the progress bars and hints of diffusers and transformers off stderr."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def sample_prompts(
    kind: str, *, count: int, seed: int, mascots: bool = False
) -> list[tuple[str, str | None]]:
    """A sample of the shipped prompts, the same for a seed.

    Args:
        kind: as `read_prompts` takes it.
        count: how many.
        seed: of the sample.
        mascots: whether only prompts for mascots are taken, whose concept is known.

    Returns:
        (prompt, file of the protected picture or None) of each.
    """
    prompts = [(p, f) for p, f in read_prompts(kind) if not mascots or str(f).startswith("mascot-")]
    return sorted(prompts, key=lambda pair: derive(seed, "some", pair[0]))[:count]


def torch_generator(seed: int) -> torch.Generator:
    """A generator on the CPU with this seed."""
    return torch.Generator().manual_seed(seed)


def verdict_fields(judge: Judge, image: Any, prompt: str, file: str | None) -> Row:
    """The judge's verdict on a picture, as fields of a row."""
    return verdict_row(judge(image, prompt, file))


def percent(value: float | None) -> str:
    """A share as "12%"; a dash for None."""
    return "–" if value is None else f"{value:.0%}"


def share(hits: Iterable[Any]) -> float | None:
    """The share of what is true, rounded; None where there is nothing."""
    values = [bool(hit) for hit in hits]
    return round(sum(values) / len(values), 4) if values else None
