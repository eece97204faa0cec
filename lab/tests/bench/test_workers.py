"""Work in several processes: which process does what, and what happens where one ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import pytest
import torch

from steerclear_lab.bench.workers import WorkerError, Workers, cores, spread, threads


def start(kind: str) -> Callable[[int], tuple[int, int, int]]:
    if kind == "broken":
        raise ValueError("no model here")
    return partial(work, kind)


def work(kind: str, job: int) -> tuple[int, int, int]:
    if job == 3 and kind == "failing":
        raise ZeroDivisionError("three")
    if job == 3 and kind == "dying":
        os._exit(7)
    return job, os.getpid(), torch.get_num_threads()


def test_a_group_stays_in_one_process_in_order_and_processes_can_be_used_again() -> None:
    groups = [[1, 2, 3], [4, 5], [], [6, 7]]
    with Workers(partial(start, "well"), 2) as workers:
        results = list(workers(groups))
        again = list(workers([[8]]))
    assert sorted(job for job, _, _ in results) == [1, 2, 3, 4, 5, 6, 7]
    for group in groups:
        in_group = [(job, process) for job, process, _ in results if job in group]
        assert [job for job, _ in in_group] == group
        assert len({process for _, process in in_group}) <= 1
    assert {process for _, process, _ in results}.isdisjoint({os.getpid()})
    assert {count for _, _, count in results} == {threads(2)}
    assert [job for job, _, _ in again] == [8]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("failing", "failed: ZeroDivisionError: three"),
        ("dying", "exit code 7"),
        ("broken", "ValueError: no model here"),
    ],
)
def test_a_process_that_cannot_go_on_stops_the_run_and_earlier_results_are_kept(
    kind: str, message: str
) -> None:
    with Workers(partial(start, kind), 1) as workers:
        results = workers([[1, 2, 3, 4]])
        kept = [] if kind == "broken" else [next(results)[0], next(results)[0]]
        with pytest.raises(WorkerError, match=message):
            next(results)
    assert kept == ([] if kind == "broken" else [1, 2])


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steerclear_lab.bench.workers.cores", lambda: 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert [threads(n) for n in (1, 2, 5, 16, 40)] == [16, 8, 3, 1, 1]
    assert cores() >= 1


def squared(number: int) -> tuple[int, int, int]:
    return number**2, os.getpid(), torch.get_num_threads()


def failing(number: int) -> int:
    raise ValueError(f"no {number}")


def test_one_process_works_here_and_raises_the_jobs_own_error() -> None:
    results = spread(squared, range(4))
    assert [(square, process) for square, process, _ in results] == [(n**2, os.getpid()) for n in range(4)]
    with pytest.raises(ValueError, match="no 0"):
        spread(failing, range(2))


@pytest.mark.slow
def test_several_processes_give_results_in_order_and_share_the_cores() -> None:
    results = spread(squared, range(8), processes=2)
    assert [square for square, _, _ in results] == [n**2 for n in range(8)]
    assert os.getpid() not in {process for _, process, _ in results}
    assert {count for _, _, count in results} == {threads(2)}


@pytest.mark.slow
def test_an_error_in_another_process_is_raised_here() -> None:
    with pytest.raises(WorkerError, match="ValueError: no 0"):
        spread(failing, range(2), processes=2)
