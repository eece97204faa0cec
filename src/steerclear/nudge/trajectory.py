"""An in-trajectory strategy: shift `denoised` while it still resembles what is unwanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.condition import nudged_condition
from steerclear.nudge.objective import Objective, cosines, minimise
from steerclear.nudge.prefer import preferred_latents
from steerclear.steering import Step


@dataclass(frozen=True)
class Trajectory:
    """At each step of a window, minimise J over `denoised` as long as an unwanted latent is nearer than `limit`.

    The gradient does not pass through the denoiser, so a step costs nothing beyond the plain pipeline's.
    window: share of the steps, from the start; limit: cosine above which the push is active.
    """

    name: str = "trajectory+condition"
    window: float = 0.6
    limit: float = 0.5
    nudge_condition: bool = True
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    iterations: int = 10

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        steps = int(task.kwargs.get("num_inference_steps", 50))
        # the paper as written is given what to prefer, and looks for nothing itself
        preferred = preferred_latents(task) if self.nudge_condition else task.preferred_latents
        objective = Objective(preferred, task.unwanted, self.alpha, self.beta, self.gamma)
        pushed = 0

        def push(step: Step) -> Tensor | None:
            nonlocal pushed
            if (
                step.index >= self.window * steps
                or float(cosines(step.denoised, task.unwanted).max()) < self.limit
            ):
                return None
            moved = minimise(objective, step.denoised, iterations=self.iterations)
            pushed += not torch.equal(moved, step.denoised)
            return moved

        condition = nudged_condition(task) if self.nudge_condition else task.condition()
        made = task.generator.regenerate(condition, task.start, task.kwargs, task.noise(seed), push)
        return Candidate(made, f"pushed at {pushed} of {steps} steps")
