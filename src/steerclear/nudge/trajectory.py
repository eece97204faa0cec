"""An in-trajectory strategy: shift `denoised` while it still resembles what is unwanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.condition import nudged_condition
from steerclear.nudge.objective import Objective, minimise
from steerclear.nudge.prefer import preferred_latents
from steerclear.nudge.space import LATENT, objective
from steerclear.pixels import cosines
from steerclear.steering import Step


@dataclass(frozen=True)
class Trajectory:
    """At each step of a window, minimise J over `denoised` as long as an unwanted latent is nearer than `limit`.

    window: share of the steps, from the start; limit: cosine above which the push is active. through: False differentiates J
    by `denoised` alone and costs nothing beyond the plain pipeline; True goes by the gradient of J with respect to the
    noisy sample, through the denoiser (as Chung et al., "DPS", ICLR 2023, eq. 16), which knows what the model can still make
    of the sample: two evaluations more for each of an active step's. `rate`: its length, as a share of `denoised`'s. space: E of J,
    the latent or an encoder that looks at it, see `nudge.space`; the limit is the latent's in any space.
    """

    name: str = "trajectory+condition"
    window: float = 0.6
    limit: float = 0.5
    nudge_condition: bool = True
    through: bool = False
    rate: float = 0.3
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    iterations: int = 10
    space: str = LATENT

    @classmethod
    def alone(cls) -> Trajectory:
        """The push on the latent alone, under the request's own condition."""
        return cls(name="trajectory", nudge_condition=False)

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        steps = int(task.kwargs.get("num_inference_steps", 50))
        # the paper as written is given what to prefer, and looks for nothing itself
        preferred = preferred_latents(task) if self.nudge_condition else task.preferred_latents
        value = objective(task, self.space, preferred, self.alpha, self.beta, self.gamma)
        condition = nudged_condition(task) if self.nudge_condition else task.condition()
        last = math.ceil(self.window * steps)
        seen = task.runner.evaluations
        pushed = 0

        def push(step: Step) -> Tensor | None:
            nonlocal pushed, seen
            evaluations, seen = task.runner.evaluations - seen, task.runner.evaluations
            if step.index >= last or float(cosines(step.denoised.detach(), task.unwanted).max()) < self.limit:
                return None
            if self.through:
                moved = self._moved(value, step)
                task.runner.count_backward(evaluations)
                seen = task.runner.evaluations
            else:
                moved = minimise(value, step.denoised, iterations=self.iterations)
            pushed += not torch.equal(moved, step.denoised)
            return moved

        made = task.runner.regenerate(
            condition,
            task.start,
            task.kwargs,
            task.torch_generator(seed),
            push,
            gradients=last if self.through else 0,
        )
        return Candidate(made, f"pushed at {pushed} of {steps} steps")

    def _moved(self, value: Objective, step: Step) -> Tensor:
        denoised = step.denoised.detach()
        (gradient,) = torch.autograd.grad(value(step.denoised, denoised), step.sample)
        size = float(gradient.norm())
        if not math.isfinite(size) or size < 1e-12:
            return denoised
        moved: Tensor = denoised - self.rate * denoised.norm() * gradient / size
        return moved
