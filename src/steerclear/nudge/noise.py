"""The starting noise as what is nudged: J over the first prediction, by a gradient through the denoiser."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.condition import nudged_condition
from steerclear.nudge.objective import Objective, minimise
from steerclear.nudge.prefer import preferred_latents
from steerclear.pixels import cosines


@dataclass(frozen=True)
class Noise:
    """Minimise J of the prediction after `steps` steps over z_T, then regenerate from the noise that was found.

    The length of z_T is kept, which keeps it on the Gaussian shell where the model knows its way (Eyring et al.,
    "ReNO", NeurIPS 2024, keep it there by a penalty). Where a pass begins from a picture, it is the noised picture that is
    nudged. J's last term holds the noise near where it was. The descent ends as soon
    as no unwanted latent is nearer than `limit`. Each iteration costs a guided evaluation, its backward pass and at least
    one evaluation more: 8 denoiser evaluations with guidance for each of `steps`.
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
        condition = nudged_condition(task) if self.nudge_condition else task.condition()
        preferred = preferred_latents(task) if self.nudge_condition else task.preferred_latents
        objective = Objective(preferred, task.unwanted, self.alpha, self.beta, gamma=0.0)
        seen: list[Tensor] = []

        def value(noise: Tensor, origin: Tensor) -> Tensor:
            denoised, _ = task.runner.predict(
                condition, noise, task.kwargs, task.torch_generator(seed), self.steps
            )
            seen.append(denoised.detach())
            away: Tensor = ((noise - origin).norm() / origin.norm()).square()
            return objective(denoised, denoised) + self.gamma * away

        def enough(noise: Tensor) -> bool:
            return bool(cosines(seen[-1], task.unwanted).max() < self.limit)

        noise = minimise(value, task.start, iterations=self.iterations, rate=self.rate, enough=enough)
        made = task.runner.regenerate(condition, noise, task.kwargs, task.torch_generator(seed))
        turned = 1 - float(torch.cosine_similarity(noise.flatten(), task.start.flatten(), dim=0))
        return Candidate(made, f"noise turned by {turned:.0%} in {len(seen)} predictions")
