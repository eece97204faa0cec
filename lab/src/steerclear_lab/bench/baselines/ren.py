"""Ren et al., "Unveiling and Mitigating Memorization … through Cross Attention" (ECCV 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.attention import changed_attention, end_of
from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run, SamplingStep

NO_ATTENTION = -1e4  # a logit that leaves no attention; -inf breaks some kernels


@dataclass(frozen=True)
class Ren:
    """In all cross-attentions of the conditional half, mask the padding after the end token.

    The first token's logit is multiplied before the softmax. Their detector, the entropy of the attention, is
    not part of the method.

    Attributes:
        first: factor of the first token's logit.
        mask: whether the padding is masked.
    """

    first: float = 1.25
    mask: bool = True
    name: ClassVar[str] = "Ren"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"first": (1.25, 1.1, 1.5, 2.0)}
    source: ClassVar[str] = "Ren et al., ECCV 2024, mitigation at inference"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        network = context.denoiser.cross_attention_network
        bias = self.bias(end_of(context.pipe.tokenizer, prompt), run.cond)

        def guide(step: SamplingStep) -> Tensor:
            with changed_attention(
                network, rows=[1], bias=bias, first=self.first
            ):  # row 0 is the unconditional half
                return step.guided()

        return run.output(run.denoise(guide))

    def bias(self, end: int, like: Tensor) -> Tensor | None:
        """(L,) 0 up to the end token and NO_ATTENTION after it; None where nothing is masked."""
        if not self.mask:
            return None
        bias = torch.zeros(like.shape[1], dtype=like.dtype, device=like.device)
        bias[end + 1 :] = NO_ATTENTION
        return bias
