"""Guidance that sets in late: what a memorized prompt does, it does through guidance, and early."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.guidance import magnitude, unguided
from steerclear.nudge.base import Candidate, SteerTask
from steerclear.steering import Step


@dataclass(frozen=True)
class GuidanceWindow:
    """Regenerate with the unconditional prediction until guidance is let in (Jain et al., CVPR 2025, §4).

    delay: share of the steps without guidance, their static form (τ = 500 of 1000 is 0.5); None lets it in at the first local
    minimum of ‖ε_c − ε_u‖, their dynamic form, at the latest after two thirds of the steps. Costs no denoiser evaluation.
    Raises UnsupportedError where the pipeline's guidance is not the plain u + g (c − u).
    """

    name: str = "guidance-window"
    delay: float | None = None

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        steps = int(task.kwargs.get("num_inference_steps", 50))
        most = round(steps * (2 / 3 if self.delay is None else self.delay))
        past: list[float] = []
        opened = False

        def hold_back(step: Step) -> Tensor | None:
            nonlocal opened
            both = task.runner.halves(step)
            bare = unguided(both, step)
            if both is None or bare is None:
                raise UnsupportedError("what guidance added to this step's prediction cannot be told")
            past.append(float(magnitude(both)))
            opened = (self.delay is None and past_minimum(past)) or step.index >= most
            return None if opened else step.affine.denoise(step.sample, bare[:, : step.sample.shape[1]])

        def until_opened(step: Step) -> Tensor | None:
            return None if opened else hold_back(step)

        made = task.runner.regenerate(
            task.condition(), task.start, task.kwargs, task.torch_generator(seed), until_opened
        )
        return Candidate(made, f"guided from step {len(past)} of {steps} on")


def past_minimum(curve: list[float]) -> bool:
    """Whether the value before the last is a local minimum: lower than the one before it, and than the last."""
    return len(curve) >= 3 and curve[-3] > curve[-2] < curve[-1]
