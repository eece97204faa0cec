"""A strategy on the starting noise: minimise J of an early prediction, by gradients through the denoiser."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.condition import nudged_condition
from steerclear.nudge.objective import Objective, minimise
from steerclear.nudge.prefer import preferred_latents
from steerclear.pixels import cosines


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Minimise J of the prediction after a few steps over z_T, then regenerate from the new noise.

    The length of z_T is kept, so that it stays on the Gaussian shell that the model was trained on (Eyring et
    al., "ReNO", NeurIPS 2024, keep it there by a penalty). Where a pipeline begins from a picture, the noised
    picture is nudged instead. The descent ends as soon as no unwanted latent is nearer than `limit`.

    Each iteration costs a guided evaluation, its backward pass and at least one more evaluation: with
    guidance, 8 denoiser evaluations for each of `steps`.

    Attributes:
        name: of the strategy.
        steps: number of steps up to the prediction.
        nudge_condition: predict and regenerate under the nudged condition, not the request's own.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of staying near the first noise.
        iterations: see `descend`.
        rate: see `descend`.
        limit: cosine of the prediction with an unwanted latent, in [−1, 1].
    """

    name: str = "noise+condition"
    steps: int = 1
    nudge_condition: bool = True
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 0.2
    iterations: int = 4
    rate: float = 0.5
    limit: float = 0.5

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """See `Strategy.apply`."""
        condition = nudged_condition(task) if self.nudge_condition else task.condition()
        preferred = preferred_latents(task) if self.nudge_condition else task.preferred_latents
        objective = Objective(preferred, task.unwanted, alpha=self.alpha, beta=self.beta, gamma=0.0)
        predictions: list[Tensor] = []

        def value(noise: Tensor, origin: Tensor) -> Tensor:
            denoised, _ = task.runner.predict(
                condition,
                noise,
                kwargs=task.kwargs,
                generator=task.torch_generator(seed),
                steps=self.steps,
            )
            predictions.append(denoised.detach())
            distance: Tensor = ((noise - origin).norm() / origin.norm()).square()
            return objective(denoised, denoised) + self.gamma * distance

        def enough(noise: Tensor) -> bool:
            return bool(cosines(predictions[-1], task.unwanted).max() < self.limit)

        noise = minimise(value, task.start, iterations=self.iterations, rate=self.rate, enough=enough)
        run = task.runner.regenerate(
            condition, noise, kwargs=task.kwargs, generator=task.torch_generator(seed)
        )
        turned = 1 - float(torch.cosine_similarity(noise.flatten(), task.start.flatten(), dim=0))
        return Candidate(run, f"noise turned by {turned:.0%} in {len(predictions)} predictions")
