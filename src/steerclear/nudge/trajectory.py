"""A strategy during the run: shift `denoised` while it resembles what is unwanted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.condition import nudged_condition
from steerclear.nudge.objective import Objective, loss_scale, minimise
from steerclear.nudge.prefer import preferred_latents
from steerclear.nudge.space import LATENT, objective
from steerclear.pixels import cosines
from steerclear.steering import Step


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """In the first steps, minimise J over `denoised` as long as an unwanted latent is nearer than a limit.

    Attributes:
        name: of the strategy.
        window: share of the steps, from the start, in which it acts.
        limit: cosine of the prediction with an unwanted latent above which it acts, in latent space whatever
            E is.
        nudge_condition: regenerate under the nudged condition, not the request's own.
        through: False differentiates J by `denoised` alone, at no cost beyond a plain generation. True takes
            the gradient with respect to the noisy sample, through the denoiser (as Chung et al., "DPS", ICLR
            2023, eq. 16), which accounts for what the model can still make of the sample. Each evaluation of
            an active step then costs two more.
        rate: with `through`, the length of a step, as a share of the length of `denoised`.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of staying near.
        iterations: without `through`, see `descend`.
        space: E of J, the latent or an encoder that looks at it, see `steerclear.nudge.space`.
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
        """The strategy `trajectory`: the shift alone, under the request's own condition."""
        return cls(name="trajectory", nudge_condition=False)

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """See `Strategy.apply`."""
        steps = int(task.kwargs.get("num_inference_steps", 50))
        # without the nudged condition it is given what to prefer, and searches for nothing itself
        preferred = preferred_latents(task) if self.nudge_condition else task.preferred_latents
        value = objective(task, self.space, preferred, alpha=self.alpha, beta=self.beta, gamma=self.gamma)
        condition = nudged_condition(task) if self.nudge_condition else task.condition()
        end = math.ceil(self.window * steps)
        counted = task.runner.evaluations
        pushed = 0

        def push(step: Step) -> Tensor | None:
            nonlocal pushed, counted
            evaluations, counted = task.runner.evaluations - counted, task.runner.evaluations
            if step.index >= end or float(cosines(step.denoised.detach(), task.unwanted).max()) < self.limit:
                return None
            if self.through:
                moved = self._moved_through_denoiser(value, step)
                task.runner.count_backward(evaluations)
                counted = task.runner.evaluations
            else:
                moved = minimise(value, step.denoised, iterations=self.iterations)
            pushed += not torch.equal(moved, step.denoised)
            return moved

        run = task.runner.regenerate(
            condition,
            task.start,
            kwargs=task.kwargs,
            generator=task.torch_generator(seed),
            on_denoised=push,
            gradients=end if self.through else 0,
        )
        return Candidate(run, f"pushed at {pushed} of {steps} steps")

    def _moved_through_denoiser(self, value: Objective, step: Step) -> Tensor:
        """`denoised` moved one step along the negative gradient of J with respect to the noisy sample."""
        denoised = step.denoised.detach()
        scale = loss_scale(denoised)
        (gradient,) = torch.autograd.grad(value(step.denoised, denoised) * scale, step.sample)
        gradient = gradient.to(denoised) / scale
        length = float(gradient.norm())
        if not math.isfinite(length) or length < 1e-12:
            return denoised
        moved: Tensor = denoised - self.rate * denoised.norm() * gradient / length
        return moved
