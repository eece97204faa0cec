"""Jain et al., "Classifier-Free Guidance inside the Attraction Basin May Cause Memorization" (CVPR 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from steerclear.nudge.guidance_window import past_minimum
from steerclear_lab.bench.baselines.base import Context, Made, Moment, Run


@dataclass(frozen=True)
class JainStatic:
    """No guidance, ε = ε_u, while t > transition; full guidance from there on. Costs less than the plain pipeline,
    since the conditional half is not evaluated where it has no weight. transition: of 1000 timesteps, 500 in the paper."""

    transition: float = 500.0
    name: ClassVar[str] = "Jain static"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"transition": (500.0, 650.0, 800.0, 900.0)}
    source: ClassVar[str] = "Jain et al., CVPR 2025, static transition point"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, prompt, seed)
        return run.made(run.denoise(self.guide))

    def guide(self, moment: Moment) -> Tensor:
        return moment.alone(moment.run.uncond) if moment.timestep > self.transition else moment.guided()


@dataclass(frozen=True)
class JainDynamic:
    """No guidance until d_t = ‖Δ(x_t, t)‖ has passed its first local minimum, full guidance from there on.

    d_t is taken in the model's own output: in ε, a v-model's curve has the factor α, and only rises.

    latest: timestep at which guidance begins though no minimum was seen; without it a curve that only falls or only rises
    would never be guided. enabled=False is the plain pipeline.
    """

    latest: float = 300.0
    enabled: bool = True
    name: ClassVar[str] = "Jain dynamic"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"latest": (300.0, 500.0, 650.0, 800.0)}
    source: ClassVar[str] = "Jain et al., CVPR 2025, dynamic transition point"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, prompt, seed)
        curve: list[float] = []
        released = not self.enabled

        def guide(moment: Moment) -> Tensor:
            nonlocal released
            if not released:
                curve.append(float((moment.pair[1] - moment.pair[0]).norm()))
                released = past_minimum(curve) or float(moment.timestep) <= self.latest
            return moment.guided() if released else moment.pair[0]

        return run.made(run.denoise(guide))


@dataclass(frozen=True)
class JainOpposite:
    """Guidance of the opposite sign, ε = ε_u + opposite · Δ, while t > transition; full guidance from there on."""

    opposite: float = -2.0
    transition: float = 650.0
    name: ClassVar[str] = "Jain opposite"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"opposite": (-2.0, -1.0), "transition": (650.0, 850.0)}
    source: ClassVar[str] = "Jain et al., CVPR 2025, opposite guidance"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, prompt, seed)
        return run.made(
            run.denoise(lambda m: m.guided(self.opposite if m.timestep > self.transition else None))
        )
