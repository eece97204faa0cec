"""Sparse repellency: `denoised` is kept outside a ball around every unwanted latent, up to and including the last step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.condition import nudged_condition
from steerclear.steering import Step

ROUNDS = 50


@dataclass(frozen=True)
class Shield:
    """Regenerate while every prediction is projected out of the unwanted balls (SPELL, Kirchhof et al. 2024, eq. 6).

    radius: of a ball, as a share of the length of the unwanted latent at its centre. Where the sampler's last step
    returns `denoised` itself (DDIM with η = 0, Euler, DPM++ with its final step to σ = 0), the final latent lies outside
    every ball by construction; anything else is noticed at the end, and raises: so does what inpainting puts back after the
    last step, where that leads into a ball again. Costs no denoiser evaluation.
    """

    name: str = "shield+condition"
    radius: float = 0.8
    nudge_condition: bool = True

    @classmethod
    def alone(cls) -> Shield:
        """The push on the latent alone, under the request's own condition."""
        return cls(name="shield", nudge_condition=False)

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        pushed, steps = 0, 0

        def keep_out(step: Step) -> Tensor | None:
            nonlocal pushed, steps
            steps += 1
            moved = outside(step.denoised, task.unwanted, self.radius)
            if torch.equal(moved, step.denoised):
                return None
            pushed += 1
            return moved

        condition = nudged_condition(task) if self.nudge_condition else task.condition()
        made = task.runner.regenerate(
            condition, task.start, task.kwargs, task.torch_generator(seed), keep_out
        )
        assert made.latents is not None
        nearest = float(distances(made.latents, task.unwanted).min())
        if not nearest >= self.radius * 0.99:  # the scheduler's last step did not return what it was given
            raise ArithmeticError(
                f"the final latent ended at {nearest:.2f}, inside the radius of {self.radius}"
            )
        return Candidate(made, f"projected at {pushed} of {steps} steps")


def distances(latent: Tensor, centres: Tensor) -> Tensor:
    """‖latent − u‖ / ‖u‖ for each row u of centres (U, …): (U,)."""
    flat, points = latent.flatten().float(), centres.flatten(1).to(latent).float()
    apart: Tensor = (flat - points).norm(dim=1) / points.norm(dim=1).clamp(min=1e-8)
    return apart


def outside(latent: Tensor, centres: Tensor, radius: float) -> Tensor:
    """The latent (1, …), or a point near it that lies at `radius` or farther from every centre (U, …).

    It leaves the deepest ball first, straight away from its centre; from the very centre along a fixed direction. Balls
    may overlap, so one projection may end in another ball: the last resort is to go on outwards. Raises ArithmeticError
    where ROUNDS projections find no way out, and for a latent that is not finite.
    """
    if not bool(latent.isfinite().all()):
        raise ArithmeticError("a predicted latent is not finite")
    moved = latent
    for turn in range(ROUNDS):
        apart = distances(moved, centres)
        deepest = int(apart.argmin())
        if float(apart[deepest]) >= radius:
            return moved
        centre = centres[deepest : deepest + 1].to(moved)
        away = moved - centre
        if float(away.norm()) < 1e-6 * float(centre.norm()):
            away = torch.randn(away.shape, generator=torch.Generator().manual_seed(0)).to(moved)
        # a hair more than the radius, and more with every turn, so that rounding and neighbours are left behind too
        reach = radius * float(centre.norm()) * (1.001 + 0.02 * turn)
        moved = centre + away * (reach / away.norm())
    raise ArithmeticError(f"no way out of {len(centres)} balls of radius {radius} in {ROUNDS} projections")
