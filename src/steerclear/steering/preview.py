"""A cheap look at a latent: a linear map to RGB, fitted to the pipeline's own autoencoder by least squares.

Latents of these autoencoders are nearly pictures: at an eighth of the size, a matrix from latent channels to
colours shows most of what the decoder would (k-diffusion's and ComfyUI's previews use such matrices). It
costs next to nothing, and its gradient is the matrix itself, so an encoder can look through it inside the
denoising loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.errors import ConfigError, InputError
from steerclear.steering.autoencoder import autoencoder_of
from steerclear.steering.codecs import codec_for
from steerclear.steering.packing import Packing


@dataclass(frozen=True, eq=False, kw_only=True)
class Preview:
    """Latents to small pictures, one pixel per latent pixel.

    Attributes:
        weight: (3, C, k, k), from the k × k latent pixels around each to its colour.
        bias: (3,).
        rmse: root mean squared difference to the true decode, averaged down to this size, on the pictures
            that the preview was fitted to; pixels in [0, 1].
        packing: how the pipeline packs its latents into tokens; None where it does not.
    """

    weight: Tensor
    bias: Tensor
    rmse: float
    packing: Packing | None = None

    def __call__(self, latents: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Small pictures of latents.

        Args:
            latents: as the scheduler sees them, (B, C, h, w) or packed.
            size: (height, width) of the whole picture in pixels, for packed latents that are not square.

        Returns:
            (B, 3, h, w) float32, about [0, 1]; not clamped, so that gradients reach every latent.
        """
        unpacked = _unpacked(latents, self.packing, size).float()
        weight, bias = self.weight.to(unpacked.device), self.bias.to(unpacked.device)
        margin = weight.shape[-1] // 2
        if margin:
            unpacked = F.pad(unpacked, (margin,) * 4, mode="replicate")
        return F.conv2d(unpacked, weight, bias)


def fit_preview(
    pipe: Any, images: Tensor, neighbourhood: int = 1, size: tuple[int, int] | None = None
) -> Preview:
    """Fit a Preview to the pipeline's autoencoder, on a handful of pictures.

    Args:
        pipe: a diffusers pipeline.
        images: (B, 3, H, W) in [0, 1], sides a multiple of the autoencoder's factor; two dozen varied ones
            are enough.
        neighbourhood: an odd number of latent pixels per side: 1 maps each alone, 3 sees its neighbours too
            and is sharper.
        size: (H, W) of the images where latents are packed and the images are not square.

    Raises:
        InputError: for images of another shape.
        ConfigError: for an even neighbourhood.
        UnsupportedError: for a pipeline whose autoencoder is not known.
    """
    if neighbourhood < 1 or neighbourhood % 2 == 0:
        raise ConfigError(f"a neighbourhood of {neighbourhood} has no centre; it must be 1, 3, 5 …")
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise InputError(
            f"a preview is fitted to images (B, 3, H, W) in [0, 1], not to {tuple(images.shape)}"
        )
    codec = codec_for(pipe, *(size or (None, None)))
    latent_rows, colours = [], []
    with torch.no_grad():
        for image in images:
            latents = codec.encode(image[None].to(pipe._execution_device))
            unpacked = _unpacked(latents, codec.packing, size).float().cpu()
            latent_rows.append(_neighbourhoods(unpacked, neighbourhood))
            height, width = unpacked.shape[-2:]
            small = F.adaptive_avg_pool2d(codec.decode(latents).cpu(), (height, width))
            colours.append(small.flatten(2).transpose(1, 2).reshape(-1, 3))
    inputs, targets = torch.cat(latent_rows).double(), torch.cat(colours).double()
    inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1)
    # by singular values: with few pictures, or channels that repeat each other, the matrix must not grow huge
    solution = torch.linalg.lstsq(inputs, targets, driver="gelsd").solution
    rmse = float((inputs @ solution - targets).square().mean().sqrt())
    weight = solution[:-1].T.reshape(3, -1, neighbourhood, neighbourhood)
    return Preview(
        weight=weight.float().contiguous(), bias=solution[-1].float(), rmse=rmse, packing=codec.packing
    )


_fitted: WeakKeyDictionary[Any, dict[int, Preview]] = WeakKeyDictionary()


def preview_for(pipe: Any, images: Tensor, neighbourhood: int = 1) -> Preview:
    """As `fit_preview`, once per autoencoder: later calls get the same preview, whatever images they pass."""
    autoencoder = autoencoder_of(pipe)
    if autoencoder is None:
        return fit_preview(pipe, images, neighbourhood)  # raises, and names what is missing
    previews = _fitted.setdefault(autoencoder, {})
    if neighbourhood not in previews:
        previews[neighbourhood] = fit_preview(pipe, images, neighbourhood)
    return previews[neighbourhood]


def _unpacked(latents: Tensor, packing: Packing | None, size: tuple[int, int] | None) -> Tensor:
    """Latents (B, C, h, w), unpacked from tokens if need be."""
    if packing is None or latents.ndim == 4:
        return latents
    return packing.tokens_to_map(latents, packing.rows_and_columns(latents.shape[1], size))


def _neighbourhoods(latents: Tensor, k: int) -> Tensor:
    """The k × k latent pixels around each: (B · h · w, C · k · k), in the order of a convolution's weight."""
    unfolded = F.unfold(F.pad(latents, (k // 2,) * 4, mode="replicate"), k)
    return unfolded.transpose(1, 2).reshape(-1, unfolded.shape[1])
