"""Latents packed into tokens, as FLUX and Qwen-Image pass them to their transformers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steerclear.errors import InputError


class Packing:
    """2×2 patches of a latent as tokens: (B, C, 2h, 2w) ↔ (B, h·w, 4C).

    Between the two lies the map, on which the scale and shift of a codec act. For FLUX.1 and Qwen-Image it is
    the latent itself; for FLUX.2 it is the patched (B, 4C, h, w), and each of the 4C channels has its own
    scale and shift.

    Args:
        factor: pixels per token side.
        patched: whether the map is the patched latent.
    """

    def __init__(self, factor: int, patched: bool = False) -> None:
        self.factor = factor
        self._patched = patched

    def rows_and_columns(self, count: int, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """Rows and columns of tokens.

        Args:
            count: number of tokens.
            size: (height, width) of the image in pixels; None for a square one.

        Raises:
            InputError: where so many tokens do not make such an image.
        """
        if size is not None:
            rows, columns = (side // self.factor for side in size)
        else:
            rows = columns = math.isqrt(count)
        if rows * columns != count:
            image = f"{size[0]}×{size[1]}" if size else "a square image"
            raise InputError(
                f"{count} packed tokens do not make {image}; pass codec_for the height and width"
            )
        return rows, columns

    def tokens_to_map(self, tokens: Tensor, rows_and_columns: tuple[int, int]) -> Tensor:
        """Arrange tokens as a map.

        Args:
            tokens: (B, h·w, 4C).
            rows_and_columns: h and w.

        Returns:
            The map, see the class.
        """
        patches = tokens.transpose(1, 2).reshape(len(tokens), -1, *rows_and_columns)
        return patches if self._patched else _unpatch(patches)

    def map_to_tokens(self, latents: Tensor) -> Tensor:
        """Map → tokens (B, h·w, 4C)."""
        return (latents if self._patched else _patch(latents)).flatten(2).transpose(1, 2)

    def map_to_latents(self, latents: Tensor) -> Tensor:
        """Map → latents (B, C, 2h, 2w)."""
        return _unpatch(latents) if self._patched else latents

    def latents_to_map(self, latents: Tensor) -> Tensor:
        """Latents (B, C, 2h, 2w) → map."""
        return _patch(latents) if self._patched else latents


def _patch(latents: Tensor) -> Tensor:
    """(B, C, 2h, 2w) → (B, 4C, h, w), the four values of a patch in neighbouring channels."""
    return torch.nn.functional.pixel_unshuffle(latents, 2)


def _unpatch(patches: Tensor) -> Tensor:
    """The inverse of `_patch`."""
    return torch.nn.functional.pixel_shuffle(patches, 2)
