"""Families that begin from a picture: image-to-image and inpainting."""

from __future__ import annotations

from typing import Any

from steerclear.testing import noise_families as noise


def sd1_image() -> Any:
    """Stable Diffusion 1.x, image-to-image."""
    from diffusers import StableDiffusionImg2ImgPipeline

    return StableDiffusionImg2ImgPipeline(**noise.sd1().components, requires_safety_checker=False)


def sd1_inpaint() -> Any:
    """Stable Diffusion 1.x, inpainting."""
    from diffusers import StableDiffusionInpaintPipeline

    return StableDiffusionInpaintPipeline(**noise.sd1().components, requires_safety_checker=False)


def sdxl_image() -> Any:
    """SDXL, image-to-image."""
    from diffusers import StableDiffusionXLImg2ImgPipeline

    return StableDiffusionXLImg2ImgPipeline(**noise.sdxl().components, add_watermarker=False)


def sdxl_inpaint() -> Any:
    """SDXL, inpainting."""
    from diffusers import StableDiffusionXLInpaintPipeline

    return StableDiffusionXLInpaintPipeline(**noise.sdxl().components, add_watermarker=False)


def picture() -> Any:
    """A small picture to begin from: a disc on a gradient."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:64, 0:64]
    disc = (x - 32) ** 2 + (y - 32) ** 2 < 400
    return Image.fromarray(np.stack([x * 4, y * 4, disc * 255], axis=-1).astype(np.uint8))


def mask() -> Any:
    """What inpainting may change: the right half."""
    from PIL import Image

    image = Image.new("L", (64, 64), 0)
    image.paste(255, (32, 0, 64, 64))
    return image
