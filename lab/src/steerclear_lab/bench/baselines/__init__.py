"""Every method of the comparison, one file each, written from its paper's maths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from steerclear.errors import InputError
from steerclear_lab.bench.baselines.amg import AntiMemorization
from steerclear_lab.bench.baselines.attractive_repulsive import AttractiveRepulsive
from steerclear_lab.bench.baselines.base import Context, Made, Method, References, Run
from steerclear_lab.bench.baselines.guarded import Block, Resample, Rewrite, Steerclear
from steerclear_lab.bench.baselines.han import HanBatch, HanPerSample
from steerclear_lab.bench.baselines.jain import JainDynamic, JainOpposite, JainStatic
from steerclear_lab.bench.baselines.paper import PaperNudge
from steerclear_lab.bench.baselines.ren import Ren
from steerclear_lab.bench.baselines.sail import Sail
from steerclear_lab.bench.baselines.sld import SafeLatentDiffusion
from steerclear_lab.bench.baselines.spell import Spell
from steerclear_lab.bench.baselines.trivial import LowerGuidance, NegativePrompt, Plain, RandomTokens
from steerclear_lab.bench.baselines.wen import Wen

METHODS: dict[str, type[Any]] = {
    method.name: method
    for method in (
        Plain, Block, Resample, NegativePrompt, LowerGuidance, RandomTokens, Wen, JainStatic, JainDynamic, JainOpposite, Ren,
        Sail, AntiMemorization, Spell, SafeLatentDiffusion, HanPerSample, HanBatch, AttractiveRepulsive, PaperNudge, Rewrite,
        Steerclear,
    )
}  # fmt: skip


def named(names: Sequence[str]) -> dict[str, type[Any]]:
    """Methods by name, spaces, hyphens and case aside. Raises InputError for one that is unknown."""
    known = {_plain(name): name for name in METHODS}
    found = {}
    for name in names:
        if _plain(name) not in known:
            raise InputError(f"there is no method {name!r}; there are: {', '.join(METHODS)}")
        found[known[_plain(name)]] = METHODS[known[_plain(name)]]
    return found


def configurations(method: type[Any], budget: int) -> list[Any]:
    """The first `budget` settings of a method's grid, its paper's own first."""
    names = list(method.grid)
    unknown = set(names) - {f.name for f in fields(method)}
    assert not unknown, unknown
    choices = product(*method.grid.values())
    return [
        method(**dict(zip(names, values, strict=True)))
        for values, _ in zip(choices, range(budget), strict=False)
    ]


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")


__all__ = ["METHODS", "Context", "Made", "Method", "References", "Run", "configurations", "named"]
