"""A benchmark's work spread over spawned processes, each with its share of the cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import torch
from rich.progress import track

Item = TypeVar("Item")
Made = TypeVar("Made")


def spread(
    work: Callable[[Item], Made], items: Iterable[Item], processes: int = 1, about: str = ""
) -> list[Made]:
    """`work` of each item, in the items' order; with one process, here. work: of a module's top level, for it is pickled.

    What a process needs once, such as a model, `work` caches for itself. An error in any of them is raised here.
    """
    todo = list(items)
    if processes < 2:
        return [work(item) for item in track(todo, about)]
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (processes,)) as pool:
        return list(track(pool.map(work, todo), about, total=len(todo)))


def _begin(processes: int) -> None:
    torch.set_num_threads(max(1, cores() // processes))


def cores() -> int:
    """That this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
