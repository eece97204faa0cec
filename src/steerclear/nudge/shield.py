"""A strategy during the run: keep `denoised` outside a ball around every unwanted latent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.condition import nudged_condition
from steerclear.steering import Step

PROJECTIONS = 50  # at most


@dataclass(frozen=True, kw_only=True)
class Shield:
    """Regenerate with every prediction projected out of the unwanted balls (SPELL, Kirchhof 2024, eq. 6).

    Where the sampler's last step returns `denoised` itself (DDIM with η = 0, Euler, DPM++ with its final step
    to σ = 0), the final latent lies outside every ball by construction. Costs no denoiser evaluation. `apply`
    raises ArithmeticError where the final latent lies inside a ball after all, under another sampler or by
    what inpainting pastes in after the last step.

    Attributes:
        name: of the strategy.
        radius: of a ball, as a share of the length of the unwanted latent at its centre.
        nudge_condition: regenerate under the nudged condition, not the request's own.
    """

    name: str = "shield+condition"
    radius: float = 0.8
    nudge_condition: bool = True

    @classmethod
    def alone(cls) -> Shield:
        """The strategy `shield`: the projection alone, under the request's own condition."""
        return cls(name="shield", nudge_condition=False)

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """See `Strategy.apply`."""
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
        run = task.runner.regenerate(
            condition,
            task.start,
            kwargs=task.kwargs,
            generator=task.torch_generator(seed),
            on_denoised=keep_out,
        )
        assert run.latents is not None
        nearest = float(distances(run.latents, task.unwanted).min())
        if not nearest >= self.radius * 0.99:  # the scheduler's last step did not return what it was given
            raise ArithmeticError(
                f"the final latent ended at {nearest:.2f}, inside the radius of {self.radius}"
            )
        return Candidate(run, f"projected at {pushed} of {steps} steps")


def distances(latent: Tensor, centres: Tensor) -> Tensor:
    """Distance of a latent (1, …) from each centre, relative to the centre's length.

    Args:
        latent: (1, …).
        centres: (U, …).

    Returns:
        ‖latent − u‖ / ‖u‖ for each row u, (U,).
    """
    flat, points = latent.flatten().float(), centres.flatten(1).to(latent).float()
    relative: Tensor = (flat - points).norm(dim=1) / points.norm(dim=1).clamp(min=1e-8)
    return relative


def outside(latent: Tensor, centres: Tensor, radius: float) -> Tensor:
    """The latent itself if it lies outside every ball, else a point near it that does.

    It leaves the deepest ball first, straight away from its centre; from the very centre along a fixed
    direction. Balls may overlap, so one projection may end in another ball; each further projection then
    reaches a little farther.

    Args:
        latent: (1, …).
        centres: (U, …) of the balls.
        radius: of a ball, as a share of the length of its centre.

    Raises:
        ArithmeticError: where PROJECTIONS projections find no way out, and for a latent that is not finite.
    """
    if not bool(latent.isfinite().all()):
        raise ArithmeticError("a predicted latent is not finite")
    moved = latent
    for turn in range(PROJECTIONS):
        relative = distances(moved, centres)
        deepest = int(relative.argmin())
        if float(relative[deepest]) >= radius:
            return moved
        centre = centres[deepest : deepest + 1].to(moved)
        direction = moved - centre
        if float(direction.norm()) < 1e-6 * float(centre.norm()):
            direction = torch.randn(direction.shape, generator=torch.Generator().manual_seed(0)).to(moved)
        # slightly more than the radius, and more with every turn, to get past rounding and neighbouring balls
        reach = radius * float(centre.norm()) * (1.001 + 0.02 * turn)
        moved = centre + direction * (reach / direction.norm())
    raise ArithmeticError(
        f"no way out of {len(centres)} balls of radius {radius} in {PROJECTIONS} projections"
    )
