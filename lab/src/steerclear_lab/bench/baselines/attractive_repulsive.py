"""GUARD: Triantafillou et al., "You Don't Need All That Attention" (ICML 2026), arXiv 2603.00133."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.attention import changed_attention, recorded_attention
from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run, SamplingStep


@dataclass(frozen=True)
class AttractiveRepulsive:
    """ε = ε_u + g (ε⁺ − ε_u) − r (ε⁻ − ε_u): ε⁻ under the prompt, ε⁺ with less attention to spike tokens.

    Spike tokens have an attention at the first step, over all cross-attentions, heads and positions, more
    than `spread` standard deviations above the mean; the first token is left out. The paper's r of 2 goes
    with a g of 7.5 and is scaled to the context's g. Multiplying an attention before it is normalised is
    adding a logarithm to its logit.

    Attributes:
        repulsion: r at g = 7.5.
        attenuation: factor of the attention to spike tokens.
        spread: standard deviations above the mean.
    """

    repulsion: float = 2.0
    attenuation: float = 0.3
    spread: float = 1.0
    name: ClassVar[str] = "GUARD"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"spread": (1.0, 0.0), "attenuation": (0.3, 0.1)}
    source: ClassVar[str] = "Triantafillou et al., ICML 2026 (arXiv 2603.00133)"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        repulsion = self.repulsion * context.guidance / 7.5
        network, bias = context.denoiser.cross_attention_network, None
        if self.attenuation != 1:
            bias = self.bias(self.attention(run))
        # without a repulsion ε⁻ has no weight and is not evaluated
        embeds = torch.cat([run.uncond, run.cond, run.cond][: 3 if repulsion else 2])

        def guide(step: SamplingStep) -> Tensor:
            with changed_attention(network, [1], bias):
                out = run.outputs(step.sample, step.timestep, embeds).chunk(len(embeds))
            return combined(
                blank=out[0],
                plus=out[1],
                minus=out[2] if repulsion else None,
                attraction=context.guidance,
                repulsion=repulsion,
            )

        return run.output(run.denoise(guide))

    def attention(self, run: Run) -> Tensor:
        """(L,) mean attention to each token at the first step: one evaluation."""
        network = run.denoiser.cross_attention_network
        with torch.no_grad(), recorded_attention(network, 0) as attention:
            run.first_step().predict(run.cond)
        return torch.stack(attention).mean(0)

    def bias(self, attention: Tensor) -> Tensor:
        """(L,) log(attenuation) at the spikes, else 0. The first token is an attention sink and no spike."""
        rest = attention[1:]
        spikes = rest > rest.mean() + self.spread * rest.std()
        return torch.cat([attention.new_zeros(1), spikes.to(attention) * math.log(self.attenuation)])


def combined(
    *, blank: Tensor, plus: Tensor, minus: Tensor | None, attraction: float, repulsion: float
) -> Tensor:
    """ε_u + g (ε⁺ − ε_u) − r (ε⁻ − ε_u), from ε_u, ε⁺, ε⁻, g and r."""
    pulled = blank + attraction * (plus - blank)
    return pulled if minus is None else pulled - repulsion * (minus - blank)
