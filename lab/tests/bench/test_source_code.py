"""The normalised form of source code differs only where the code computes something else."""

from __future__ import annotations

import pytest

from steerclear_lab.bench.source_code import normalised

CODE = '''
"""A module."""

RATE = 0.4


def nudge(latent, rate=RATE):
    """Move a latent."""
    moved = latent * rate  # a comment
    for step in range(3):
        moved = moved + step

    def inner(x):
        return x + moved

    return inner(latent)


class Strategy:
    """A strategy."""

    gamma: float = 1.0
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another"),
        ('"""Move a latent."""', '"""Moves."""\n    # and says so'),
        ('    """A strategy."""\n', ""),
        ("moved", "shifted"),
        ("inner", "within"),
        ("latent * rate", "(latent\n        * rate)"),
        ("def nudge(latent, rate=RATE):", "def nudge(latent: object, rate: float = RATE) -> object:"),
    ],
)
def test_it_stays_the_same_where_the_code_computes_the_same(old: str, new: str) -> None:
    assert old in CODE
    assert normalised(CODE.replace(old, new)) == normalised(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.4", "4.0"),
        ("gamma: float = 1.0", "gamma: float = 1"),
        ("latent * rate", "rate * latent"),
        ("rate=RATE", "share=RATE"),
        ("def nudge", "def push"),
        ("gamma", "weight"),
        ("x + moved", "x + latent"),
        ("range(3)", "range(4)"),
    ],
)
def test_it_changes_with_what_is_computed_and_with_public_names(old: str, new: str) -> None:
    assert old in CODE
    assert normalised(CODE.replace(old, new)) != normalised(CODE)
