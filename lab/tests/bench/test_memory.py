"""Peak memory, counted allocation by allocation."""

from __future__ import annotations

import torch

from steerclear_lab.bench.memory import peak_bytes


def test_what_is_held_together_counts_together_and_what_is_freed_does_not() -> None:
    def together() -> None:
        a = torch.ones(1000)
        b = a + 1
        assert len(a) == len(b)

    def in_turn() -> None:
        for _ in range(3):
            a = torch.ones(1000)
            del a

    assert peak_bytes(together) == 8000
    assert peak_bytes(in_turn) == 4000


def test_views_and_what_was_there_before_cost_nothing() -> None:
    before = torch.ones(1000)
    assert peak_bytes(lambda: before.view(10, 100).t()) == 0


def test_a_graph_that_is_kept_for_the_backward_pass_counts() -> None:
    weight = torch.ones(1000, requires_grad=True)

    def forward(grad: bool) -> None:
        with torch.set_grad_enabled(grad):
            x = weight
            for _ in range(4):
                x = x.exp()

    assert peak_bytes(lambda: forward(True)) > peak_bytes(lambda: forward(False))
