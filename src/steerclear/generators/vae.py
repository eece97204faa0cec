"""A VAE behind a guard: random codes decoded, and pictures encoded and decoded again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steerclear.errors import ConfigError
from steerclear.generators.code import CodeGenerator, Module


class VaeGenerator(CodeGenerator):
    """Images of codes from N(0, I), or of a picture's own code.

    Args:
        decoder: codes (B, …) → images, see `CodeGenerator`.
        latent_shape: shape of one code, without the batch.
        value_range: as in `CodeGenerator`.
        encoder: pictures (B, 3, H, W) in value_range → the means (B, …) of their codes. With it the nudge can
            push a code from a protected picture's code, which costs no evaluation of the decoder.
    """

    def __init__(
        self,
        decoder: Module,
        latent_shape: Sequence[int],
        value_range: tuple[float, float] = (-1.0, 1.0),
        *,
        encoder: Module | None = None,
    ) -> None:
        super().__init__(decoder, latent_shape, value_range)
        self.encoder = encoder

    @property
    def encodes(self) -> bool:
        """Whether there is an encoder."""
        return self.encoder is not None

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """The mean codes (B, …) of pictures (B, 3, H, W) in [0, 1].

        Raises:
            UnsupportedError: without an encoder.
        """
        if self.encoder is None:
            return super().encode(pixels)
        low, high = self.value_range
        code = self.encoder(pixels * (high - low) + low)
        if not isinstance(code, Tensor) or tuple(code.shape[1:]) != self.latent_shape:
            shape = tuple(code.shape) if isinstance(code, Tensor) else type(code).__name__
            expected = ", ".join(map(str, self.latent_shape))
            raise ConfigError(f"the encoder made {shape} of {len(pixels)} pictures, not (B, {expected})")
        return code
