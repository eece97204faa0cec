"""GUARD: Triantafillou et al., "You Don't Need All That Attention" (ICML 2026): guidance by attractive-repulsive dynamics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.attention import attending, watching
from steerclear_lab.bench.baselines.base import Context, Made, Moment, Run


@dataclass(frozen=True)
class AttractiveRepulsive:
    """ε = ε_u + g (ε⁺ − ε_u) − r (ε⁻ − ε_u): ε⁻ under the prompt, ε⁺ with its attention to spike tokens × `attenuation`.

    Spike tokens: those after the first whose attention at the first step, over all cross-attentions, heads and places, lies
    more than `spread` standard deviations above their mean. The paper's r of 2 goes with a g of 7.5 and is scaled to the
    model's g. It multiplies an attention before it is normalised again, which is log(attenuation) added to its logit.
    """

    repulsion: float = 2.0
    attenuation: float = 0.3
    spread: float = 1.0
    name: ClassVar[str] = "GUARD"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"spread": (1.0, 0.0), "attenuation": (0.3, 0.1)}
    source: ClassVar[str] = "Triantafillou et al., ICML 2026 (arXiv 2603.00133)"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, prompt, seed)
        repulsion = self.repulsion * context.guidance / 7.5
        unet, bias = context.denoiser.cross_attending, None
        if self.attenuation != 1:
            bias = self.bias(self.attention(run))
        # without a repulsion ε⁻ has no weight, and is not evaluated
        embeds = torch.cat([run.uncond, run.cond, run.cond][: 3 if repulsion else 2])

        def guide(moment: Moment) -> Tensor:
            with attending(unet, [1], bias):
                out = run.outputs(moment.sample, moment.timestep, embeds).chunk(len(embeds))
            return combined(out[0], out[1], out[2] if repulsion else None, context.guidance, repulsion)

        return run.made(run.denoise(guide))

    def attention(self, run: Run) -> Tensor:
        """(L,) mean attention to each token at the first step: one evaluation."""
        with torch.no_grad(), watching(run.denoiser.cross_attending, 0) as seen:
            run.first().alone(run.cond)
        return torch.stack(seen).mean(0)

    def bias(self, attention: Tensor) -> Tensor:
        """(L,) log(attenuation) at the spikes, else 0. The first token is a sink, and no spike."""
        rest = attention[1:]
        spikes = rest > rest.mean() + self.spread * rest.std()
        return torch.cat([attention.new_zeros(1), spikes.to(attention) * math.log(self.attenuation)])


def combined(
    blank: Tensor, plus: Tensor, minus: Tensor | None, attraction: float, repulsion: float
) -> Tensor:
    """ε_u + g (ε⁺ − ε_u) − r (ε⁻ − ε_u)."""
    pulled = blank + attraction * (plus - blank)
    return pulled if minus is None else pulled - repulsion * (minus - blank)
