"""The methods of the comparison, one file each, written from the maths of their papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from itertools import product
from typing import Any

from steerclear.errors import InputError
from steerclear_lab.bench.baselines.amg import AntiMemorization
from steerclear_lab.bench.baselines.attractive_repulsive import AttractiveRepulsive
from steerclear_lab.bench.baselines.base import Context, Method, MethodOutput, References, Run
from steerclear_lab.bench.baselines.guarded import (
    BlockBaseline,
    ResampleBaseline,
    RewriteBaseline,
    SteerclearBaseline,
)
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
        Plain,
        BlockBaseline,
        ResampleBaseline,
        NegativePrompt,
        LowerGuidance,
        RandomTokens,
        Wen,
        JainStatic,
        JainDynamic,
        JainOpposite,
        Ren,
        Sail,
        AntiMemorization,
        Spell,
        SafeLatentDiffusion,
        HanPerSample,
        HanBatch,
        AttractiveRepulsive,
        PaperNudge,
        RewriteBaseline,
        SteerclearBaseline,
    )
}


def named(names: Sequence[str]) -> dict[str, type[Any]]:
    """Look up methods by name; spaces, hyphens, underscores and case do not matter.

    Args:
        names: such as "SPELL" or "jain-static".

    Returns:
        name in METHODS → method, in the given order.

    Raises:
        InputError: for an unknown name.
    """
    by_normalised = {_normalised(name): name for name in METHODS}
    methods = {}
    for given in names:
        name = by_normalised.get(_normalised(given))
        if name is None:
            raise InputError(f"there is no method {given!r}; there are: {', '.join(METHODS)}")
        methods[name] = METHODS[name]
    return methods


def configurations(method: type[Any], budget: int) -> list[Any]:
    """The settings that tuning tries: the first `budget` of the method's grid, its paper's own first."""
    names = list(method.grid)
    unknown = set(names) - {f.name for f in fields(method)}
    assert not unknown, unknown
    choices = product(*method.grid.values())
    return [
        method(**dict(zip(names, values, strict=True)))
        for values, _ in zip(choices, range(budget), strict=False)
    ]


def _normalised(name: str) -> str:
    """A name without what does not matter."""
    return name.lower().replace(" ", "").replace("-", "").replace("_", "")


__all__ = ["METHODS", "Context", "Method", "MethodOutput", "References", "Run", "configurations", "named"]
