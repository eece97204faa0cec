"""The paper's own strategy: optimise the flagged output's clean latent, then regenerate from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from torch import Tensor

from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.condition import HOLD, nudged_condition
from steerclear.nudge.objective import descend
from steerclear.nudge.prefer import preferred_latents
from steerclear.nudge.space import LATENT, objective

LOOK = 5  # iterations between two checks by the filters


@dataclass(frozen=True, kw_only=True)
class FinalLatent:
    """Minimise J over the clean latent, noise it back to a level, denoise again (arXiv 2408.15450, §3).

    Attributes:
        name: of the strategy.
        strength: share of the steps that are done again, in (0, 1].
        nudge_condition: regenerate under the nudged condition. False is the paper as written, whose
            regeneration under the request's own condition may restore the copy.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of staying near.
        iterations: see `descend`.
        rate: see `descend`.
        optimiser: see `descend`.
        stop: end the descent as soon as the guard's filters pass what the latent shows; they look after every
            LOOK iterations.
        space: E of J, the latent or an encoder that looks at it, see `steerclear.nudge.space`.
    """

    name: str = "final-latent+condition"
    strength: float = 0.7
    nudge_condition: bool = True
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    iterations: int = 40
    rate: float = 0.05
    optimiser: str = "descent"
    stop: bool = False
    space: str = LATENT

    @classmethod
    def as_written(cls) -> FinalLatent:
        """The strategy `final-latent`: as in the paper, it regenerates under the request's own condition."""
        return cls(name="final-latent", nudge_condition=False)

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        # the paper as written is given what to prefer, and searches for nothing itself
        """See `Strategy.apply`."""
        preferred = preferred_latents(task) if self.nudge_condition else task.preferred_latents
        descent = descend(
            objective(task, self.space, preferred, alpha=self.alpha, beta=self.beta, gamma=self.gamma),
            task.clean,
            iterations=self.iterations,
            rate=self.rate,
            optimiser=self.optimiser,
            enough=self._enough(task),
        )
        condition = task.condition()
        if self.nudge_condition:
            condition = nudged_condition(task, alpha=self.alpha, beta=self.beta, gamma=HOLD * self.gamma)
        run = task.runner.resume(
            descent.latent,
            self.strength,
            condition=condition,
            kwargs=task.kwargs,
            generator=task.torch_generator(seed),
        )
        stopped = (
            f"{descent.iterations} iterations ({descent.why}), "
            f"regenerated from {self.strength:.0%} of the noise"
        )
        return Candidate(run, stopped, (descent,))

    def _enough(self, task: SteerTask) -> Callable[[Tensor], bool] | None:
        """Whether the filters pass a latent, asked at every LOOK-th call; None where they are not asked."""
        passes, calls = task.passes, count(1)
        if not self.stop or passes is None:
            return None
        return lambda latent: next(calls) % LOOK == 0 and passes(latent)
