"""Rows made in several processes: which process makes what, and what happens where one ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import pytest
import torch

from steerclear_lab.bench.workers import WorkerError, Workers, threads


def answering(kind: str) -> Callable[[int], tuple[int, int, int]]:
    if kind == "broken":
        raise ValueError("no model here")
    return partial(answer, kind)


def answer(kind: str, job: int) -> tuple[int, int, int]:
    if job == 3 and kind == "failing":
        raise ZeroDivisionError("three")
    if job == 3 and kind == "dying":
        os._exit(7)
    return job, os.getpid(), torch.get_num_threads()


def test_a_group_stays_in_one_process_in_order_and_processes_can_be_asked_again() -> None:
    groups = [[1, 2, 3], [4, 5], [], [6, 7]]
    with Workers(partial(answering, "well"), 2) as make:
        found = list(make(groups))
        again = list(make([[8]]))
    assert sorted(job for job, _, _ in found) == [1, 2, 3, 4, 5, 6, 7]
    for group in groups:
        mine = [(job, process) for job, process, _ in found if job in group]
        assert [job for job, _ in mine] == group
        assert len({process for _, process in mine}) <= 1
    assert {process for _, process, _ in found}.isdisjoint({os.getpid()})
    assert {count for _, _, count in found} == {threads(2)}
    assert [job for job, _, _ in again] == [8]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("failing", "failed: ZeroDivisionError: three"),
        ("dying", "exit code 7"),
        ("broken", "ValueError: no model here"),
    ],
)
def test_a_process_that_cannot_go_on_stops_the_run_and_what_was_answered_is_kept(
    kind: str, says: str
) -> None:
    with Workers(partial(answering, kind), 1) as make:
        answers = make([[1, 2, 3, 4]])
        kept = [] if kind == "broken" else [next(answers)[0], next(answers)[0]]
        with pytest.raises(WorkerError, match=says):
            next(answers)
    assert kept == ([] if kind == "broken" else [1, 2])


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steerclear_lab.bench.workers.cores", lambda: 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert [threads(n) for n in (1, 2, 5, 16, 40)] == [16, 8, 3, 1, 1]
