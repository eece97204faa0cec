"""Latents to pixels and back, as each pipeline family does it with its final latent.

A codec takes latents as the scheduler sees them: what `Step.denoised` holds is what `decode` takes, packed or
not, scaled or normalised. The class of the autoencoder says in which form it takes a latent, and its config
holds the numbers. Which of these count, and whether latents are packed into tokens, the last lines of the
pipeline's own `__call__` say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from steerclear.errors import InputError, UnsupportedError
from steerclear.steering.autoencoder import AutoencoderCodec, autoencoder_of
from steerclear.steering.call import call_names, parameters_of
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
        UnsupportedError: for video pipelines, and where the way from latents to pixels is not known.
        InputError: where only one of height and width is given for packed latents.
    """
    autoencoder = autoencoder_of(pipe)
    formula = next((FORMULAS[c.__name__] for c in type(autoencoder).__mro__ if c.__name__ in FORMULAS), None)
    if autoencoder is None:
        raise _unknown(pipe, "has no autoencoder")
    if formula is None:
        known = ", ".join(sorted(FORMULAS))
        raise _unknown(pipe, f"has {type(autoencoder).__name__} for an autoencoder, and not one of {known}")
    codec = formula(pipe, autoencoder)
    codec.factor = int(getattr(pipe, "vae_scale_factor", None) or codec.factor)
    if gradient_checkpointing:
        codec.checkpoint()
    if codec.packing is not None and (height is None) != (width is None):
        raise InputError(f"height is {height} and width {width}; codec_for needs both, or neither")
    codec.size = None if height is None or width is None else (height, width)
    return codec


def _unknown(pipe: Any, why: str) -> UnsupportedError:
    """The error for a pipeline whose formula is not known."""
    return UnsupportedError(
        f"{type(pipe).__name__} {why}: it has no known way from latents to one image each"
    )


def decoding_names(pipe: Any) -> frozenset[str]:
    """What the pipeline's `__call__` names, where it decodes its latents itself and each is one image."""
    names = call_names(type(pipe))
    if "decode_latents" in names:
        names |= call_names(type(pipe), "decode_latents")
    if "num_frames" in parameters_of(type(pipe)):
        raise _unknown(pipe, "decodes several frames")
    if "decode" not in names:
        raise _unknown(pipe, "does not decode its latents in its call")
    if "layers" in parameters_of(type(pipe)):
        raise _unknown(pipe, "makes several layers of one latent")
    if "sigma_data" in names:
        raise _unknown(pipe, "scales its scheduler's latents by sigma_data")
    return names


def _packing(pipe: Any, names: frozenset[str]) -> Packing | None:
    """How the pipeline packs its latents into tokens, if it does."""
    if "_unpack_latents" not in names:
        return None
    if getattr(pipe, "patch_size", 2) != 2:
        raise _unknown(pipe, f"packs its latents in patches of {pipe.patch_size} and not of 2")
    return Packing(2 * pipe.vae_scale_factor)


def _scaled(pipe: Any, vae: Any) -> AutoencoderCodec:
    """A codec with one scaling factor, and one shift or a mean and a standard deviation per channel."""
    names, config = decoding_names(pipe), vae.config
    scale: Any = config.scaling_factor if "scaling_factor" in names else 1.0
    shift: Any = (getattr(config, "shift_factor", None) or 0.0) if "shift_factor" in names else 0.0
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None and "latents_mean" in names:
        scale, shift = scale / _per_channel(std), _per_channel(mean)
    # DiTPipeline has no vae_scale_factor
    factor = 2 ** (len(getattr(config, "block_out_channels", (8,) * 4)) - 1)
    return AutoencoderCodec(vae, scale=scale, shift=shift, packing=_packing(pipe, names), factor=factor)


def _flux2(pipe: Any, vae: Any) -> AutoencoderCodec:
    """FLUX.2: statistics per channel of the patched latent, which the autoencoder keeps as a batch norm."""
    if "_unpatchify_latents" not in decoding_names(pipe):
        raise _unknown(pipe, "puts the patches of its latents together in a way of its own")
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    packing = Packing(2 * pipe.vae_scale_factor, patched=True)
    return AutoencoderCodec(vae, scale=1 / std, shift=mean, packing=packing)


def _qwen(pipe: Any, vae: Any) -> AutoencoderCodec:
    """Qwen-Image: statistics per channel, and an autoencoder for videos that gets one frame."""
    packing = _packing(pipe, decoding_names(pipe))
    scale, shift = 1 / _per_channel(vae.config.latents_std), _per_channel(vae.config.latents_mean)
    return AutoencoderCodec(vae, scale=scale, shift=shift, packing=packing, frames=True)


def _movq(pipe: Any, movq: Any) -> AutoencoderCodec:
    """Kandinsky: a quantising autoencoder whose latents are neither scaled nor, here, quantised."""
    is_its_movq = movq is getattr(pipe, "movq", None)
    if not is_its_movq:
        raise _unknown(pipe, f"has a {type(movq).__name__} for an autoencoder, of which only movq is known")
    factor = 2 ** (len(movq.config.block_out_channels) - 1)
    return AutoencoderCodec(movq, factor=factor, force_not_quantize=True)


def _vqgan(pipe: Any, vqgan: Any) -> AutoencoderCodec:
    """Würstchen and Stable Cascade: a VQGAN, not quantised here, with pixels in [0, 1]."""
    factor = vqgan.config.up_down_scale_factor * 2 ** (vqgan.config.levels - 1)
    scale = 1 / vqgan.config.scale_factor
    return AutoencoderCodec(vqgan, scale=scale, symmetric=False, factor=factor)


def _per_channel(values: Any) -> torch.Tensor:
    """One number per channel, to multiply latents (B, C, H, W) by."""
    return torch.tensor(values).view(1, -1, 1, 1)


FORMULAS: dict[str, Callable[[Any, Any], AutoencoderCodec]] = {
    "AutoencoderDC": _scaled,
    "AutoencoderKL": _scaled,
    "AutoencoderKLFlux2": _flux2,
    "AutoencoderKLQwenImage": _qwen,
    "AutoencoderTiny": _scaled,
    "PaellaVQModel": _vqgan,
    "VQModel": _movq,
}
