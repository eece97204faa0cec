"""The paper's own strategy: optimise the flagged output's clean latent, then regenerate from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from torch import Tensor

from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.condition import nudged_condition
from steerclear.nudge.objective import Objective, minimise
from steerclear.nudge.prefer import preferred_latents

LOOK = 5


@dataclass(frozen=True)
class FinalLatent:
    """Minimise J over the clean latent, noise it back to a level, denoise again (arXiv 2408.15450, §3).

    strength: share of the steps done again; nudge_condition: False is the paper as written, whose regeneration
    under the request's own condition may restore the copy; True regenerates under the nudged condition.
    """

    name: str = "final-latent+condition"
    strength: float = 0.7
    nudge_condition: bool = True
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    iterations: int = 40
    stop: bool = False

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        # the paper as written is given what to prefer, and looks for nothing itself
        preferred = preferred_latents(task) if self.nudge_condition else task.preferred_latents
        objective = Objective(preferred, task.unwanted, self.alpha, self.beta, self.gamma)
        clean = minimise(objective, task.clean, iterations=self.iterations, enough=self._enough(task))
        condition = nudged_condition(task) if self.nudge_condition else task.condition()
        made = task.generator.resume(clean, self.strength, condition, task.kwargs, task.noise(seed))
        return Candidate(made, f"regenerated from {self.strength:.0%} of the noise")

    def _enough(self, task: SteerTask) -> Callable[[Tensor], bool] | None:
        passes, turns = task.passes, count(1)
        if not self.stop or passes is None:
            return None
        return lambda latent: next(turns) % LOOK == 0 and passes(latent)
