"""A cheap look at a latent: a linear map to RGB, fitted to the pipeline's own autoencoder by least squares.

Latents of these autoencoders are nearly pictures: at an eighth of the size, a matrix from latent channels to colours shows
most of what the decoder would (the latent-to-RGB matrices of k-diffusion's and ComfyUI's previews). It costs next to
nothing and its gradient is the matrix itself, so an encoder can stand behind it inside the denoising loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, InputError
from .codecs import AutoencoderCodec, Packing, autoencoder_of, codec_for


@dataclass(frozen=True, eq=False)
class Preview:
    """Latents to small pictures, one pixel per latent pixel.

    weight: (3, C, k, k), from the k × k latent pixels around each to its colour; bias: (3,); rmse: root mean squared
    difference to the true decode, averaged down to this size, on the pictures that it was fitted to.
    """

    weight: Tensor
    bias: Tensor
    rmse: float
    packing: Packing | None = None

    def __call__(self, latents: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """latents: as the scheduler sees them, (B, C, h, w) or packed. Returns (B, 3, h, w) float32, about [0, 1].

        size: of the whole picture in pixels, for packed latents that are not square. The result is not clamped, so that
        gradients reach every latent.
        """
        spread = _map(latents, self.packing, size).float()
        weight, bias = self.weight.to(spread.device), self.bias.to(spread.device)
        reach = weight.shape[-1] // 2
        if reach:
            spread = F.pad(spread, (reach,) * 4, mode="replicate")
        return F.conv2d(spread, weight, bias)


def fit_preview(
    pipe: Any, images: Tensor, neighbourhood: int = 1, size: tuple[int, int] | None = None
) -> Preview:
    """A Preview of the pipeline's autoencoder, from a handful of pictures.

    images: (B, 3, H, W) in [0, 1], sides a multiple of the autoencoder's factor; two dozen varied ones do. neighbourhood:
    1 maps each latent pixel alone, 3 sees its neighbours too and is sharper; odd. size: (H, W) where packed and not square.
    Raises InputError for images of another shape, ConfigError for an even neighbourhood, UnsupportedError for a pipeline
    whose autoencoder is not known.
    """
    if neighbourhood < 1 or neighbourhood % 2 == 0:
        raise ConfigError(f"a neighbourhood of {neighbourhood} has no centre; it must be 1, 3, 5 …")
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise InputError(
            f"a preview is fitted to images (B, 3, H, W) in [0, 1], not to {tuple(images.shape)}"
        )
    codec = codec_for(pipe, *(size or (None, None)))
    assert isinstance(codec, AutoencoderCodec)
    spreads, colours = [], []
    with torch.no_grad():
        for image in images:
            latents = codec.encode(image[None].to(pipe._execution_device))
            spread = _map(latents, codec.packing, size).float().cpu()
            spreads.append(_neighbours(spread, neighbourhood))
            height, width = spread.shape[-2:]
            small = F.adaptive_avg_pool2d(codec.decode(latents).cpu(), (height, width))
            colours.append(small.flatten(2).transpose(1, 2).reshape(-1, 3))
    seen, wanted = torch.cat(spreads).double(), torch.cat(colours).double()
    seen = torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1)
    # by singular values: few pictures, or channels that say the same, must not blow the matrix up
    found = torch.linalg.lstsq(seen, wanted, driver="gelsd").solution
    rmse = float((seen @ found - wanted).square().mean().sqrt())
    weight = found[:-1].T.reshape(3, -1, neighbourhood, neighbourhood)
    return Preview(weight.float().contiguous(), found[-1].float(), rmse, codec.packing)


_fitted: WeakKeyDictionary[Any, dict[int, Preview]] = WeakKeyDictionary()


def preview_for(pipe: Any, images: Tensor, neighbourhood: int = 1) -> Preview:
    """As `fit_preview`, once: a pipeline's autoencoder keeps its preview for as long as it lives, whatever images follow."""
    autoencoder = autoencoder_of(pipe)
    if autoencoder is None:
        return fit_preview(pipe, images, neighbourhood)  # says by name what is missing
    known = _fitted.setdefault(autoencoder, {})
    if neighbourhood not in known:
        known[neighbourhood] = fit_preview(pipe, images, neighbourhood)
    return known[neighbourhood]


def _map(latents: Tensor, packing: Packing | None, size: tuple[int, int] | None) -> Tensor:
    """(B, C, h, w), unpacked if need be."""
    if packing is None or latents.ndim == 4:
        return latents
    return packing.tokens_to_map(latents, packing.rows_and_columns(latents.shape[1], size))


def _neighbours(spread: Tensor, k: int) -> Tensor:
    """(B · h · w, C · k · k), in the order of a convolution's weight."""
    around = F.unfold(F.pad(spread, (k // 2,) * 4, mode="replicate"), k)
    return around.transpose(1, 2).reshape(-1, around.shape[1])
