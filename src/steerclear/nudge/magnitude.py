"""A strategy without a library: lower the guidance's magnitude over the prompt embedding."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from steerclear.errors import UnsupportedError
from steerclear.generators.conditions import EMBEDS, prompt_embeddings
from steerclear.generators.guidance import magnitude
from steerclear.nudge.base import Candidate, SteerTask


@dataclass(frozen=True, kw_only=True)
class Magnitude:
    """Lower ‖ε_c − ε_u‖ at the first step over the prompt embedding, then regenerate.

    As in the paper (Wen et al., ICLR 2024, §4) it is AdamW, with the first token left alone. Each iteration
    costs a guided evaluation and its backward pass. `apply` raises UnsupportedError for a call without
    guidance.

    Attributes:
        name: of the strategy.
        iterations: at most so many; the paper's number.
        rate: AdamW's; the paper's number.
        target: share of the first magnitude at which the descent ends, where the paper has a value for each
            model.
    """

    name: str = "magnitude"
    iterations: int = 10
    rate: float = 0.05
    target: float = 0.45

    def apply(self, task: SteerTask, seed: int) -> Candidate:
        """See `Strategy.apply`."""
        condition = dict(task.condition())
        requested = prompt_embeddings(condition)[EMBEDS].detach()
        # in half precision AdamW divides by zero, and its steps round to nothing
        embeds = requested.to(torch.float32, copy=True).requires_grad_()
        optimiser = torch.optim.AdamW([embeds], lr=self.rate)
        magnitudes: list[float] = []
        for _ in range(self.iterations):
            with torch.enable_grad():
                condition[EMBEDS] = embeds.to(requested)
                _, pair = task.runner.predict(
                    condition, task.start, kwargs=task.kwargs, generator=task.torch_generator(seed)
                )
                if pair is None:
                    raise UnsupportedError("without guidance there is no magnitude to lower")
                value = magnitude(pair).sum()
                (embeds.grad,) = torch.autograd.grad(value, embeds)
            magnitudes.append(float(value.detach()))
            if magnitudes[-1] <= self.target * magnitudes[0]:
                break
            embeds.grad[:, 0] = 0
            optimiser.step()
        condition[EMBEDS] = embeds.detach().to(requested)
        run = task.runner.regenerate(
            condition, task.start, kwargs=task.kwargs, generator=task.torch_generator(seed)
        )
        return Candidate(run, f"magnitude {magnitudes[0]:.3g} lowered to {magnitudes[-1]:.3g}")
