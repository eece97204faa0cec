"""The protected items as a pipeline sees them: their latents, made on demand by its own autoencoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from steerclear.filters.base import to_image, to_tensor
from steerclear.steering.codecs import codec_for


class Protected:
    """The pictures of a library by id, (3, S, S) in [0, 1] each, and their latents for one pipeline.

    withhold: ids whose policy is that nothing is handed out for them.
    """

    def __init__(self, pipe: Any, pictures: Mapping[str, Tensor], withhold: Iterable[str] = ()) -> None:
        self.pictures = pictures
        self.withhold = frozenset(withhold)
        self._pipe = pipe
        self._codec = codec_for(pipe)
        self._latents: dict[tuple[str, torch.Size], Tensor] = {}

    def latents(self, ids: Sequence[str], like: Tensor) -> Tensor:
        """(n, …) latents of the named items, of the shape of the rows of `like`; unknown ids are passed over."""
        known = [i for i in ids if i in self.pictures]
        for item in known:
            key = (item, like.shape[1:])
            if key not in self._latents:
                self._latents[key] = self._encode(self.pictures[item][None], like)
        return torch.cat([self._latents[item, like.shape[1:]] for item in known]) if known else like[:0]

    def encode(self, images: Sequence[Image.Image], like: Tensor) -> Tensor:
        """(B, …) latents of any pictures, e.g. preferred ones, of the shape of the rows of `like`."""
        return torch.cat([self._encode(to_tensor([image]), like) for image in images])

    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of clean latents (B, …): what an abandoned pass was about to make."""
        with torch.no_grad():
            pixels = self._codec.decode(latents).clamp(0, 1)
        return [to_image(image) for image in pixels]

    def _encode(self, pixels: Tensor, like: Tensor) -> Tensor:
        factor = int(getattr(self._pipe, "vae_scale_factor", 8))
        height, width = (side * factor for side in like.shape[-2:])
        fitted = F.interpolate(
            pixels, size=(height, width), mode="bicubic", antialias=True, align_corners=False
        )
        with torch.no_grad():
            return self._codec.encode(fitted.clamp(0, 1).to(self._pipe._execution_device)).to(like)
