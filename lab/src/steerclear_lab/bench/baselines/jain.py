"""Jain et al., "Classifier-Free Guidance inside the Attraction Basin May Cause Memorization" (CVPR 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run, SamplingStep
from steerclear_lab.guidance_window import past_minimum


@dataclass(frozen=True)
class JainStatic:
    """No guidance, ε = ε_u, while t > transition; full guidance afterwards.

    It costs less than the plain pipeline: the conditional half is not evaluated where it has no weight.

    Attributes:
        transition: of 1000 timesteps; 500 in the paper.
    """

    transition: float = 500.0
    name: ClassVar[str] = "Jain static"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"transition": (500.0, 650.0, 800.0, 900.0)}
    source: ClassVar[str] = "Jain et al., CVPR 2025, static transition point"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        return run.output(run.denoise(self.guide))

    def guide(self, step: SamplingStep) -> Tensor:
        """What the scheduler receives at a step."""
        return step.predict(step.run.uncond) if step.timestep > self.transition else step.guided()


@dataclass(frozen=True)
class JainDynamic:
    """No guidance until d_t = ‖Δ(x_t, t)‖ has passed its first local minimum; full guidance afterwards.

    d_t is measured in the model's own output: in ε, the curve of a v-model has the factor α and only rises.

    Attributes:
        latest: timestep at which guidance begins even if there was no minimum; without it, a curve that only
            falls or only rises would never be guided.
        enabled: False is the plain pipeline.
    """

    latest: float = 300.0
    enabled: bool = True
    name: ClassVar[str] = "Jain dynamic"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"latest": (300.0, 500.0, 650.0, 800.0)}
    source: ClassVar[str] = "Jain et al., CVPR 2025, dynamic transition point"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        curve: list[float] = []
        guided = not self.enabled

        def guide(step: SamplingStep) -> Tensor:
            nonlocal guided
            if not guided:
                curve.append(float((step.both_outputs[1] - step.both_outputs[0]).norm()))
                guided = past_minimum(curve) or float(step.timestep) <= self.latest
            return step.guided() if guided else step.both_outputs[0]

        return run.output(run.denoise(guide))


@dataclass(frozen=True)
class JainOpposite:
    """Guidance of the opposite sign, ε = ε_u + opposite · Δ, while t > transition; full guidance afterwards.

    Attributes:
        opposite: the negative scale.
        transition: of 1000 timesteps; 1000 is the plain pipeline.
    """

    opposite: float = -2.0
    transition: float = 650.0
    name: ClassVar[str] = "Jain opposite"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"opposite": (-2.0, -1.0), "transition": (650.0, 850.0)}
    source: ClassVar[str] = "Jain et al., CVPR 2025, opposite guidance"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)

        def guide(step: SamplingStep) -> Tensor:
            return step.guided(self.opposite if step.timestep > self.transition else None)

        return run.output(run.denoise(guide))
