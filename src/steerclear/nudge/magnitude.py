"""The prompt embedding moved until the prompt says no more to the model than an ordinary one does; no library is needed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from steerclear.errors import UnsupportedError
from steerclear.generators.conditions import EMBEDS, positive
from steerclear.generators.guidance import magnitude
from steerclear.nudge.base import Candidate, SteerTask


@dataclass(frozen=True)
class Magnitude:
    """Lower ‖ε_c − ε_u‖ at the first step over the prompt embedding, then regenerate (Wen et al., ICLR 2024, §4).

    AdamW at the paper's rate, at most its ten iterations, the first token left alone as there; target: the share of the
    magnitude at which it ends, where the paper has a value for each model. Each iteration costs a guided evaluation and its
    backward pass. Raises UnsupportedError for a pipeline that is not guided.
    """

    name: str = "magnitude"
    iterations: int = 10
    rate: float = 0.05
    target: float = 0.45

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        condition = dict(task.condition())
        embeds = positive(condition)[EMBEDS].detach().clone().requires_grad_()
        optimiser = torch.optim.AdamW([embeds], lr=self.rate)
        sizes: list[float] = []
        for _ in range(self.iterations):
            with torch.enable_grad():
                condition[EMBEDS] = embeds
                _, both = task.runner.predict(condition, task.start, task.kwargs, task.torch_generator(seed))
                if both is None:
                    raise UnsupportedError("without guidance there is no magnitude to lower")
                size = magnitude(both).sum()
                (embeds.grad,) = torch.autograd.grad(size, embeds)
            sizes.append(float(size.detach()))
            if sizes[-1] <= self.target * sizes[0]:
                break
            embeds.grad[:, 0] = 0
            optimiser.step()
        condition[EMBEDS] = embeds.detach()
        made = task.runner.regenerate(condition, task.start, task.kwargs, task.torch_generator(seed))
        return Candidate(made, f"magnitude {sizes[0]:.3g} lowered to {sizes[-1]:.3g}")
