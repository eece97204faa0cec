"""A strategy on the guidance: it sets in late, since a memorized prompt acts through guidance, and early."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.guidance import magnitude, unguided
from steerclear.nudge.base import Candidate, SteerTask
from steerclear.steering import Step


@dataclass(frozen=True, kw_only=True)
class GuidanceWindow:
    """Regenerate without guidance up to some step, and with it from there on (Jain et al., CVPR 2025, §4).

    Costs no denoiser evaluation beyond a plain generation. `apply` raises UnsupportedError where the
    pipeline's guidance is not the plain u + g (c − u).

    Attributes:
        name: of the strategy.
        delay: share of the steps without guidance, the paper's static form (τ = 500 of 1000 is 0.5). None is
            its dynamic form: guidance begins at the first local minimum of ‖ε_c − ε_u‖, and at the latest
            after two thirds of the steps.
    """

    name: str = "guidance-window"
    delay: float | None = None

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        steps = int(task.kwargs.get("num_inference_steps", 50))
        latest = round(steps * (2 / 3 if self.delay is None else self.delay))
        magnitudes: list[float] = []
        guided = False

        def without_guidance(step: Step) -> Tensor | None:
            nonlocal guided
            pair = task.runner.guidance_pair(step)
            prediction = unguided(pair, step)
            if pair is None or prediction is None:
                raise UnsupportedError("what guidance added to this step's prediction cannot be told")
            magnitudes.append(float(magnitude(pair)))
            guided = (self.delay is None and past_minimum(magnitudes)) or step.index >= latest
            if guided:
                return None
            return step.affine.denoise(step.sample, prediction[:, : step.sample.shape[1]])

        run = task.runner.regenerate(
            task.condition(),
            task.start,
            kwargs=task.kwargs,
            generator=task.torch_generator(seed),
            on_denoised=lambda step: None if guided else without_guidance(step),
        )
        return Candidate(run, f"guided from step {len(magnitudes)} of {steps} on")


def past_minimum(curve: list[float]) -> bool:
    """Whether the last value but one is a local minimum: lower than both its neighbours."""
    return len(curve) >= 3 and curve[-3] > curve[-2] < curve[-1]
