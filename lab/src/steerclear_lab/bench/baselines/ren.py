"""Ren et al., "Unveiling and Mitigating Memorization in Text-to-Image Diffusion Models through Cross Attention" (ECCV 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steerclear_lab.bench.baselines.attention import attending, end_of
from steerclear_lab.bench.baselines.base import Context, Made, Moment, Run

NOTHING = -1e4  # a logit that leaves no attention; -inf breaks some kernels


@dataclass(frozen=True)
class Ren:
    """In every cross-attention of the conditional half, nothing attends to what stands after the end token, and the first
    token's logit is multiplied by `first` before the softmax. Their detector, the entropy of attention, is not part of it."""

    first: float = 1.25
    mask: bool = True
    name: ClassVar[str] = "Ren"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"first": (1.25, 1.1, 1.5, 2.0)}
    source: ClassVar[str] = "Ren et al., ECCV 2024, mitigation at inference"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, prompt, seed)
        network = context.denoiser.cross_attending
        bias = self.bias(end_of(context.pipe.tokenizer, prompt), run.cond)

        def guide(moment: Moment) -> Tensor:
            with attending(network, [1], bias, self.first):  # row 0 is the unconditional half
                return moment.guided()

        return run.made(run.denoise(guide))

    def bias(self, end: int, like: Tensor) -> Tensor | None:
        """(L,) 0 up to the end token and `NOTHING` after it."""
        if not self.mask:
            return None
        bias = torch.zeros(like.shape[1], dtype=like.dtype, device=like.device)
        bias[end + 1 :] = NOTHING
        return bias
