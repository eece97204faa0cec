"""Pictures to tensors and back, resizing, and cosines between latents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


def to_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Pixels of pictures of one size: (B, 3, H, W) in [0, 1]."""
    arrays = [np.asarray(image.convert("RGB"), dtype=np.float32) for image in images]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous() / 255


def to_image(pixels: Tensor) -> Image.Image:
    """The picture of pixels (3, H, W) in [0, 1]."""
    array = pixels.permute(1, 2, 0).float().cpu().numpy() * 255
    return Image.fromarray(array.round().astype(np.uint8))


def fit(images: Tensor, size: int) -> Tensor:
    """Images resized to a square, bicubic and antialiased.

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: side in pixels.

    Returns:
        (B, 3, size, size) in [0, 1]; the very tensor where it has this size already.
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(
        images, size=(size, size), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)


def cosines(latent: Tensor, others: Tensor) -> Tensor:
    """Cosine (N,) of one latent (1, …) with each of others (N, …), all flattened."""
    return F.cosine_similarity(latent.flatten(1), others.to(latent).flatten(1), dim=1)
