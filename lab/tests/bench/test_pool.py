"""Work spread over processes comes back in order, each process with its share of the cores."""

from __future__ import annotations

import os

import pytest
import torch

from steerclear_lab.bench.pool import cores, spread


def squared(number: int) -> tuple[int, int, int]:
    return number**2, os.getpid(), torch.get_num_threads()


def broken(number: int) -> int:
    raise ValueError(f"no {number}")


def test_one_process_works_here():
    assert [(n, pid) for n, pid, _ in spread(squared, range(4))] == [(n**2, os.getpid()) for n in range(4)]


@pytest.mark.slow
def test_several_processes_answer_in_order_and_share_the_cores():
    made = spread(squared, range(8), processes=2)
    assert [n for n, _, _ in made] == [n**2 for n in range(8)]
    assert os.getpid() not in {pid for _, pid, _ in made}
    assert {threads for _, _, threads in made} == {max(1, cores() // 2)}


@pytest.mark.slow
def test_an_error_of_a_process_is_raised_here():
    with pytest.raises(ValueError, match="no 0"):
        spread(broken, range(2), processes=2)
