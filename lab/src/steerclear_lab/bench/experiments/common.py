"""What the experiments share: how much is run, who makes the rows, and how a table is written."""

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
Answering = Callable[[], Callable[[Any], list[Row]]]


@dataclass(frozen=True)
class Options:
    """out: where the report goes; prompts, seeds: how many of each, None for the experiment's own numbers; quick: as few as
    show that it runs; rows: a finished comparison, whose rows serve where an experiment needs no others; work: where an
    unfinished one is kept."""

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
        """How many prompts, where the experiment's own number is `full`."""
        return self.prompts or (min(2, full) if self.quick else full)

    def words(self) -> list[str]:
        """The options that the figures depend on, as they are typed."""
        given = {
            "--seed": self.seed, "--steps": self.steps if self.steps != 25 else None, "--memorized": self.prompts,
            "--seeds": self.seeds, "--processes": self.processes if self.processes != 1 else None,
        }  # fmt: skip
        words = ["--quick"] if self.quick else []
        return words + [word for name, value in given.items() if value for word in (name, str(value))]


def answered(what: str, start: Answering, jobs: Sequence[Any], processes: int) -> list[Row]:
    """The rows of all jobs, in their order. start: a function of a module; called once in each process, it gives what answers a
    job there."""
    return [row for rows in spread(partial(_answer, start), jobs, processes, what) for row in rows]


def _answer(start: Answering, job: Any) -> list[Row]:
    return _started(start)(job)


@lru_cache(maxsize=1)
def _started(start: Answering) -> Callable[[Any], list[Row]]:
    hush()
    return start()


def hush() -> None:
    """Keep the libraries' own bars and hints off stderr."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    for logging in (of_diffusers, of_transformers):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def asked(kind: str, count: int, seed: int, mascots: bool = False) -> list[tuple[str, str | None]]:
    """(prompt, file) of `count` prompts of a kind, always the same for a seed. mascots: only those of a known concept."""
    prompts = [(p, f) for p, f in read_prompts(kind) if not mascots or str(f).startswith("mascot-")]
    return sorted(prompts, key=lambda pair: derive(seed, "some", pair[0]))[:count]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def judged(judge: Judge, image: Any, prompt: str, file: str | None) -> Row:
    """The judge's verdict on a picture, as JSON."""
    return verdict_row(judge(image, prompt, file))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def share(hits: Iterable[Any]) -> float | None:
    """The share of what is true; None of nothing."""
    found = [bool(hit) for hit in hits]
    return round(sum(found) / len(found), 4) if found else None
