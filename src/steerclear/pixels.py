"""Pictures to tensors and back, resizing, normalising, and cosines between latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from steerclear.errors import UnsupportedError


def to_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Pixels of pictures of one size: (B, 3, H, W) in [0, 1]."""
    arrays = np.stack([np.asarray(image.convert("RGB")) for image in images])
    pixels = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def rgb_copy(image: Image.Image) -> Image.Image:
    """A copy of a picture's pixels in RGB that nobody else holds.

    A guard checks this copy and hands out this copy: whoever made the picture can neither paint over it
    afterwards nor hide anything in its transparency or its metadata.

    Args:
        image: a picture with 8 bits a channel; it is read once.

    Raises:
        UnsupportedError: for what is no picture, or pixels whose range is unknown.
    """
    if not isinstance(image, Image.Image):
        raise UnsupportedError(f"a guard needs PIL images, and this is {type(image).__name__}; convert it")
    if image.mode == "F" or image.mode.startswith("I"):
        raise UnsupportedError(
            f"the range of pixels of mode {image.mode!r} is unknown; convert the picture to RGB"
        )
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    copy = Image.new("RGB", rgb.size)
    copy.paste(rgb)
    return copy


def to_image(pixels: Tensor) -> Image.Image:
    """The picture of pixels (3, H, W) in [0, 1].

    Raises:
        ValueError: for pixels that are not finite, which would become black.
    """
    if not bool(pixels.isfinite().all()):
        raise ValueError("the pixels of a picture are not finite")
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


def processor_side(settings: Mapping[str, Any], default: int) -> int:
    """The side in pixels of the square that a model looks at.

    Args:
        settings: of its image processor, as Hugging Face's `preprocessor_config.json` has them. The crop
            counts before the size to which a picture is first resized.
        default: where they name neither.
    """
    side = settings.get("crop_size") or settings.get("size") or default
    return side if isinstance(side, int) else int(side.get("height") or side["shortest_edge"])


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the mean of each channel, and divide by its standard deviation.

    Args:
        images: (B, C, H, W).
        mean: one number per channel.
        std: one number per channel.

    Returns:
        (B, C, H, W).
    """
    means, stds = (images.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    return (images - means) / stds


def cosines(latent: Tensor, others: Tensor) -> Tensor:
    """Cosine similarity of flattened latents.

    Args:
        latent: (1, …).
        others: (N, …).

    Returns:
        (N,) in [−1, 1].
    """
    return F.cosine_similarity(latent.flatten(1), others.to(latent).flatten(1), dim=1)
