"""The protected items as a pipeline sees them: their latents, made on demand by its own autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steerclear.filters.base import to_tensor
from steerclear.filters.nearest import fit
from steerclear.steering.codecs import codec_for


class Protected:
    """Ids and thumbnails (N, 3, S, S) of a library, and their latents for one pipeline.

    size: side in pixels of what the pipeline makes, at which pictures are encoded.
    """

    def __init__(self, pipe: Any, ids: Sequence[str], thumbnails: Tensor, size: int) -> None:
        self.ids = tuple(ids)
        self.thumbnails = thumbnails
        self.size = size
        self._codec = codec_for(pipe)
        self._latents: dict[str, Tensor] = {}

    def latents(self, ids: Sequence[str]) -> Tensor:
        """(n, …) latents of the named items; an id that the library does not hold is passed over."""
        known = [i for i in ids if i in self.ids]
        for missing in (i for i in known if i not in self._latents):
            self._latents[missing] = self._encode(self.thumbnails[self.ids.index(missing)][None])
        return torch.cat([self._latents[i] for i in known]) if known else torch.empty(0)

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """(B, …) latents of any pictures, e.g. preferred ones."""
        return torch.cat([self._encode(to_tensor([image])) for image in images])

    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of clean latents (B, …): what an abandoned pass was about to make."""
        with torch.no_grad():
            pixels = self._codec.decode(latents).clamp(0, 1)
        arrays = (pixels.permute(0, 2, 3, 1).float().cpu().numpy() * 255).round().astype(np.uint8)
        return [Image.fromarray(array) for array in arrays]

    def _encode(self, pixels: Tensor) -> Tensor:
        with torch.no_grad():
            return self._codec.encode(fit(pixels, self.size))
