"""Latents to pixels and back, as each pipeline family does it with its final latent.

A codec takes latents as the scheduler sees them: what `Step.denoised` holds is what `decode` takes, packed or
not, scaled or normalised. The families differ in four things: the autoencoder, its scale and shift, whether
latents are packed into tokens, and the range of the pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from steerclear.errors import InputError, UnsupportedError
from steerclear.steering.autoencoder import AutoencoderCodec
from steerclear.steering.packing import Packing


def codec_for(
    pipe: Any, height: int | None = None, width: int | None = None, gradient_checkpointing: bool = False
) -> AutoencoderCodec:
    """The codec of a diffusers image pipeline; `decode` gives what the pipeline gives for `output_type="pt"`.

    Both directions are differentiable; where pixels are clamped to [0, 1] the gradient is zero. An
    autoencoder that overflows in half precision is copied to float32, once, so the pipeline's own is never
    changed. With CPU offload, decoding inside the denoising loop moves modules: keep the autoencoder on the
    device. A resize that the pipeline does to pixels afterwards (PixArt's and Sana's resolution binning) is
    not done.

    Args:
        pipe: a diffusers pipeline.
        height: of the image in pixels; needed only where latents are packed into tokens (FLUX, Qwen-Image)
            and the image is not square.
        width: of the image in pixels, likewise.
        gradient_checkpointing: trade time for memory when differentiating through `decode`. It sets the flag
            on the pipeline's own autoencoder, where it does nothing without gradients.

    Raises:
        UnsupportedError: for video pipelines, and for families whose formula is not known.
        InputError: where only one of height and width is given for packed latents.
    """
    family = _family(pipe)
    make = _FAMILIES.get(family)
    if make is None:
        raise UnsupportedError(
            f"{type(pipe).__name__} (diffusers family {family or 'unknown'!r}) has no known way from "
            f"latents to one image each; families: {', '.join(sorted(_FAMILIES))}"
        )
    codec = make(pipe)
    codec.factor = int(getattr(pipe, "vae_scale_factor", None) or codec.factor)
    if gradient_checkpointing:
        codec.checkpoint()
    if codec.packing is not None and (height is None) != (width is None):
        raise InputError(f"height is {height} and width {width}; codec_for needs both, or neither")
    codec.size = None if height is None or width is None else (height, width)
    return codec


def _family(pipe: Any) -> str:
    """The folder of diffusers' pipelines that the class comes from, e.g. "flux"; "" for any other class."""
    for cls in type(pipe).__mro__:
        parts = cls.__module__.split(".")
        if parts[:2] == ["diffusers", "pipelines"] and len(parts) == 4:
            return parts[2]
        if parts[:3] == ["diffusers", "pipelines", "deprecated"] and len(parts) == 5:
            return parts[3]
    return ""


def _scaled(pipe: Any) -> AutoencoderCodec:
    """One scaling factor; for some fine-tuned SDXL also a mean and a standard deviation per channel."""
    config = _autoencoder(pipe).config
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or std is None or "XL" not in type(pipe).__name__:
        # DiTPipeline has no vae_scale_factor
        factor = 2 ** (len(config.block_out_channels) - 1)
        return AutoencoderCodec(pipe.vae, scale=config.scaling_factor, factor=factor)
    mean, std = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)
    return AutoencoderCodec(pipe.vae, scale=config.scaling_factor / std, shift=mean)


def _shifted(pipe: Any) -> AutoencoderCodec:
    """One scaling factor and one shift."""
    config = _autoencoder(pipe).config
    return AutoencoderCodec(pipe.vae, scale=config.scaling_factor, shift=config.shift_factor or 0.0)


def _packed(pipe: Any) -> AutoencoderCodec:
    """FLUX.1: one scaling factor and one shift, and latents packed into tokens."""
    config = _autoencoder(pipe).config
    packing = Packing(2 * pipe.vae_scale_factor)
    shift = config.shift_factor or 0.0
    return AutoencoderCodec(pipe.vae, scale=config.scaling_factor, shift=shift, packing=packing)


def _flux2(pipe: Any) -> AutoencoderCodec:
    """FLUX.2: statistics per channel of the patched latent, which the autoencoder keeps as a batch norm."""
    vae = _autoencoder(pipe, "AutoencoderKLFlux2")
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    packing = Packing(2 * pipe.vae_scale_factor, patched=True)
    return AutoencoderCodec(vae, scale=1 / std, shift=mean, packing=packing)


def _qwen(pipe: Any) -> AutoencoderCodec:
    """Qwen-Image: statistics per channel, and an autoencoder for videos that gets one frame."""
    if type(pipe).__name__ == "QwenImageLayeredPipeline":
        raise UnsupportedError("QwenImageLayeredPipeline makes several layers of one latent")
    vae = _autoencoder(pipe, "AutoencoderKLQwenImage")
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1)
    packing = Packing(2 * pipe.vae_scale_factor)
    return AutoencoderCodec(vae, scale=1 / std, shift=mean, packing=packing, frames=True)


def _movq(pipe: Any) -> AutoencoderCodec:
    """Kandinsky: a quantising autoencoder whose latents are neither scaled nor, here, quantised."""
    movq = _autoencoder(pipe, "VQModel", "movq")
    factor = 2 ** (len(movq.config.block_out_channels) - 1)
    return AutoencoderCodec(movq, factor=factor, force_not_quantize=True)


def _vqgan(pipe: Any) -> AutoencoderCodec:
    """Würstchen and Stable Cascade: a VQGAN, not quantised here, with pixels in [0, 1]."""
    vqgan = _autoencoder(pipe, "PaellaVQModel", "vqgan")
    factor = vqgan.config.up_down_scale_factor * 2 ** (vqgan.config.levels - 1)
    scale = 1 / vqgan.config.scale_factor
    return AutoencoderCodec(vqgan, scale=scale, symmetric=False, factor=factor)


def _sana(pipe: Any) -> AutoencoderCodec:
    """Sana: one scaling factor, and a deep compression autoencoder."""
    if "Sprint" in type(pipe).__name__:
        raise UnsupportedError(f"{type(pipe).__name__}: its scheduler's latents are scaled by sigma_data")
    vae = _autoencoder(pipe, "AutoencoderDC")
    return AutoencoderCodec(vae, scale=vae.config.scaling_factor)


def _autoencoder(pipe: Any, expected: str = "AutoencoderKL", component: str = "vae") -> Any:
    """The pipeline's autoencoder, if its class is the one whose formula is known."""
    autoencoder = getattr(pipe, component, None)
    if expected not in {cls.__name__ for cls in type(autoencoder).__mro__}:
        raise UnsupportedError(
            f"{type(pipe).__name__} with a {type(autoencoder).__name__} has no known way from latents to "
            f"pixels; known: {expected}"
        )
    return autoencoder


_FAMILIES: dict[str, Callable[[Any], AutoencoderCodec]] = {
    "aura_flow": _scaled,
    "chroma": _packed,
    "cogview3": _scaled,
    "cogview4": _scaled,
    "controlnet": _scaled,
    "controlnet_hunyuandit": _scaled,
    "controlnet_sd3": _shifted,
    "dit": _scaled,
    "flux": _packed,
    "flux2": _flux2,
    "hidream_image": _shifted,
    "hunyuandit": _scaled,
    "kandinsky2_2": _movq,
    "kandinsky3": _movq,
    "kolors": _scaled,
    "latent_consistency_models": _scaled,
    "lumina": _scaled,
    "lumina2": _shifted,
    "omnigen": _scaled,
    "pixart_alpha": _scaled,
    "qwenimage": _qwen,
    "sana": _sana,
    "stable_cascade": _vqgan,
    "stable_diffusion": _scaled,
    "stable_diffusion_3": _shifted,
    "stable_diffusion_xl": _scaled,
    "t2i_adapter": _scaled,
    "wuerstchen": _vqgan,
    "z_image": _shifted,
}
