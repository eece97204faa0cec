"""A GAN behind a guard: z from N(0, I), a mapping to w where it has one, one evaluation for an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steerclear.generators.code import CodeGenerator, Module


class GanGenerator(CodeGenerator):
    """Images of z, or of w = mapping(z); the nudge moves what the module takes, w where there is a mapping.

    Wrap a class-conditional network to fix its label: `lambda z: module(z, label)`.

    Args:
        module: as in `CodeGenerator`.
        latent_shape: shape of one z, without the batch.
        value_range: as in `CodeGenerator`.
        mapping: z (B, …) → w (B, …), deterministic, such as StyleGAN's mapping network with its truncation.
    """

    def __init__(
        self,
        module: Module,
        latent_shape: Sequence[int],
        value_range: tuple[float, float] = (-1.0, 1.0),
        *,
        mapping: Module | None = None,
    ) -> None:
        super().__init__(module, latent_shape, value_range)
        self.mapping = mapping

    @torch.no_grad()
    def code(self, noise: Tensor) -> Tensor:
        """The code (B, …) that the module takes: mapping(z) where there is a mapping, else z."""
        return noise if self.mapping is None else self.mapping(noise)
