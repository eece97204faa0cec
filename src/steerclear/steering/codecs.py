"""Latents to pixels and back, as each pipeline family does it with its final latent.

A codec speaks the scheduler's language: what `Step.denoised` holds is what `decode` takes, packed or not,
scaled or normalised. The families differ in four things: the autoencoder, its scale and shift, whether
latents are packed into tokens, and the range of the pixels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import InputError, UnsupportedError


class Codec(Protocol):
    """An autoencoder between the scheduler's latents and pixels."""

    def decode(self, latents: Tensor) -> Tensor:
        """latents: as the scheduler sees them. Returns images (B, 3, H, W) in [0, 1], float32."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) in [0, 1], sides a multiple of the autoencoder's factor. Returns latents."""
        ...


def codec_for(
    pipe: Any, height: int | None = None, width: int | None = None, gradient_checkpointing: bool = False
) -> AutoencoderCodec:
    """The codec of a diffusers image pipeline; `decode` gives what the pipeline gives for `output_type="pt"`.

    height, width: of the image in pixels; needed only where latents are packed into tokens (FLUX, Qwen-Image)
    and the image is not square. gradient_checkpointing: trade time for memory when differentiating through
    `decode`; it sets the flag on the pipeline's own autoencoder, where it does nothing without gradients.

    Both directions are differentiable; where pixels are clamped to [0, 1] the gradient is zero. Autoencoders
    that overflow in half precision are copied to float32, once, so the pipeline's own is never changed. With
    CPU offload, decoding inside the denoising loop moves modules: keep the autoencoder on the device. A
    resize that the pipeline does to pixels afterwards (PixArt's and Sana's resolution binning) is not done.

    Raises UnsupportedError for video pipelines and for families whose formula is not known.
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
        raise InputError("height and width are given together or not at all")
    codec.size = None if height is None or width is None else (height, width)
    return codec


def autoencoder_of(pipe: Any) -> Any | None:
    """The pipeline's own autoencoder, whatever it calls it."""
    found = (getattr(pipe, name, None) for name in ("vae", "movq", "vqgan"))
    return next((module for module in found if module is not None), None)


class AutoencoderCodec:
    """The general form: unpack, undo scale and shift, decode, bring pixels to [0, 1]; and the way back."""

    def __init__(
        self,
        autoencoder: Any,
        scale: Tensor | float = 1.0,
        shift: Tensor | float = 0.0,
        packing: Packing | None = None,
        frames: bool = False,
        symmetric: bool = True,
        factor: int = 8,
        **decode_kwargs: Any,
    ) -> None:
        """decoded latent = latent / scale + shift; frames: the autoencoder is a video one and gets one frame;
        symmetric: its pixels lie in [-1, 1] rather than [0, 1]; factor: pixels per side of an unpacked latent pixel."""
        self.autoencoder = _in_safe_precision(autoencoder)
        self._scale, self._shift = scale, shift
        self._frames, self._symmetric = frames, symmetric
        self._decode_kwargs = decode_kwargs
        self.factor = factor
        self.packing = packing
        self.size: tuple[int, int] | None = None

    def checkpoint(self) -> None:
        if not getattr(self.autoencoder, "_supports_gradient_checkpointing", False):
            raise UnsupportedError(
                f"{type(self.autoencoder).__name__} does not support gradient checkpointing"
            )
        self.autoencoder.enable_gradient_checkpointing()

    def decode(self, latents: Tensor) -> Tensor:
        latents = latents.to(self.autoencoder.dtype)
        if self.packing is not None and latents.ndim == 3:
            rows_and_columns = self.packing.rows_and_columns(latents.shape[1], self.size)
            latents = self.packing.tokens_to_map(latents, rows_and_columns)
        latents = latents / _like(self._scale, latents) + _like(self._shift, latents)
        if self.packing is not None:
            latents = self.packing.map_to_latents(latents)
        if self._frames:
            latents = latents[:, :, None]
        pixels: Tensor = self.autoencoder.decode(latents, return_dict=False, **self._decode_kwargs)[0]
        if self._frames:
            pixels = pixels[:, :, 0]
        pixels = pixels * 0.5 + 0.5 if self._symmetric else pixels
        return pixels.clamp(0, 1).float()

    def encode(self, images: Tensor) -> Tensor:
        pixels = images.to(self.autoencoder.dtype)
        pixels = pixels * 2 - 1 if self._symmetric else pixels
        if self._frames:
            pixels = pixels[:, :, None]
        encoded = self.autoencoder.encode(pixels, return_dict=False)[0]
        # the mean of the posterior: encoding an image twice must give the same latent
        latents = encoded if isinstance(encoded, Tensor) else encoded.mode()
        if self._frames:
            latents = latents[:, :, 0]
        return self.scaled(latents)

    def scaled(self, latents: Tensor) -> Tensor:
        """The autoencoder's own latents (B, C, H, W) as the scheduler sees them: the second half of `encode`."""
        if self.packing is not None:
            latents = self.packing.latents_to_map(latents)
        latents = (latents - _like(self._shift, latents)) * _like(self._scale, latents)
        return latents if self.packing is None else self.packing.map_to_tokens(latents)

    def pixels(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the image behind latents of a shape (C, H, W), or packed (L, C). Raises InputError as `decode`."""
        if self.packing is not None and len(shape) == 2:
            rows, columns = self.packing.rows_and_columns(shape[0], self.size)
            return rows * self.packing.factor, columns * self.packing.factor
        return shape[-2] * self.factor, shape[-1] * self.factor


class Packing:
    """2×2 patches of a latent as tokens: (B, C, 2h, 2w) ↔ (B, h·w, 4C).

    factor: pixels per token side; the scale and shift of a codec act on `map`, which is the latent itself for
    FLUX.1 and Qwen-Image and the patched (B, 4C, h, w) for FLUX.2 (`patched=True`), where each of the 4C
    channels has its own.
    """

    def __init__(self, factor: int, patched: bool = False) -> None:
        self.factor = factor
        self._patched = patched

    def rows_and_columns(self, count: int, size: tuple[int, int] | None = None) -> tuple[int, int]:
        """Of the map that `count` tokens make; size: (height, width) in pixels, None for a square image."""
        if size is not None:
            rows, columns = (side // self.factor for side in size)
        else:
            rows = columns = math.isqrt(count)
        if rows * columns != count:
            said = f"{size[0]}×{size[1]}" if size else "a square image"
            raise InputError(f"{count} packed tokens do not make {said}; pass codec_for the height and width")
        return rows, columns

    def tokens_to_map(self, tokens: Tensor, rows_and_columns: tuple[int, int]) -> Tensor:
        patches = tokens.transpose(1, 2).reshape(len(tokens), -1, *rows_and_columns)
        return patches if self._patched else _unpatch(patches)

    def map_to_tokens(self, latents: Tensor) -> Tensor:
        return (latents if self._patched else _patch(latents)).flatten(2).transpose(1, 2)

    def map_to_latents(self, latents: Tensor) -> Tensor:
        return _unpatch(latents) if self._patched else latents

    def latents_to_map(self, latents: Tensor) -> Tensor:
        return _patch(latents) if self._patched else latents


def _patch(latents: Tensor) -> Tensor:
    """(B, C, 2h, 2w) → (B, 4C, h, w), the four of a patch beside one another."""
    return torch.nn.functional.pixel_unshuffle(latents, 2)


def _unpatch(patches: Tensor) -> Tensor:
    return torch.nn.functional.pixel_shuffle(patches, 2)


def _like(value: Tensor | float, x: Tensor) -> Tensor | float:
    return value.to(x) if isinstance(value, Tensor) else value


def _in_safe_precision(autoencoder: Any) -> Any:
    """The autoencoder itself, or a float32 copy where its config says that half precision overflows."""
    if autoencoder.dtype == torch.float16 and getattr(autoencoder.config, "force_upcast", False):
        return copy.deepcopy(autoencoder).float()
    return autoencoder


def _family(pipe: Any) -> str:
    """The folder of diffusers' pipelines that the class comes from, e.g. "flux"; "" for a foreign class."""
    for cls in type(pipe).__mro__:
        parts = cls.__module__.split(".")
        if parts[:2] == ["diffusers", "pipelines"] and len(parts) == 4:
            return parts[2]
        if parts[:3] == ["diffusers", "pipelines", "deprecated"] and len(parts) == 5:
            return parts[3]
    return ""


def _scaled(pipe: Any) -> AutoencoderCodec:
    """latent / scaling_factor; per-channel mean and standard deviation where a fine-tuned SDXL has them."""
    config = _autoencoder(pipe).config
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or std is None or "XL" not in type(pipe).__name__:
        # DiTPipeline does not say by what its autoencoder shrinks a picture
        return AutoencoderCodec(
            pipe.vae, config.scaling_factor, factor=2 ** (len(config.block_out_channels) - 1)
        )
    std = torch.tensor(std).view(1, -1, 1, 1)
    return AutoencoderCodec(pipe.vae, config.scaling_factor / std, torch.tensor(mean).view(1, -1, 1, 1))


def _shifted(pipe: Any) -> AutoencoderCodec:
    config = _autoencoder(pipe).config
    return AutoencoderCodec(pipe.vae, config.scaling_factor, config.shift_factor or 0.0)


def _packed(pipe: Any) -> AutoencoderCodec:
    config = _autoencoder(pipe).config
    packing = Packing(2 * pipe.vae_scale_factor)
    return AutoencoderCodec(pipe.vae, config.scaling_factor, config.shift_factor or 0.0, packing)


def _flux2(pipe: Any) -> AutoencoderCodec:
    """Per-channel statistics of the patched latent, which the autoencoder keeps as a batch norm."""
    vae = _autoencoder(pipe, "AutoencoderKLFlux2")
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    return AutoencoderCodec(vae, 1 / std, mean, Packing(2 * pipe.vae_scale_factor, patched=True))


def _qwen(pipe: Any) -> AutoencoderCodec:
    """Per-channel statistics, and an autoencoder for videos that gets one frame."""
    if type(pipe).__name__ == "QwenImageLayeredPipeline":
        raise UnsupportedError("QwenImageLayeredPipeline makes several layers of one latent")
    vae = _autoencoder(pipe, "AutoencoderKLQwenImage")
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1)
    return AutoencoderCodec(vae, 1 / std, mean, Packing(2 * pipe.vae_scale_factor), frames=True)


def _movq(pipe: Any) -> AutoencoderCodec:
    """Kandinsky: a quantising autoencoder whose latents are neither scaled nor, here, quantised."""
    movq = _autoencoder(pipe, "VQModel", "movq")
    factor = 2 ** (len(movq.config.block_out_channels) - 1)
    return AutoencoderCodec(movq, factor=factor, force_not_quantize=True)


def _vqgan(pipe: Any) -> AutoencoderCodec:
    """Würstchen and Stable Cascade: a VQGAN that is not quantised either, with pixels in [0, 1]."""
    vqgan = _autoencoder(pipe, "PaellaVQModel", "vqgan")
    factor = vqgan.config.up_down_scale_factor * 2 ** (vqgan.config.levels - 1)
    return AutoencoderCodec(vqgan, 1 / vqgan.config.scale_factor, symmetric=False, factor=factor)


def _sana(pipe: Any) -> AutoencoderCodec:
    if "Sprint" in type(pipe).__name__:
        raise UnsupportedError(f"{type(pipe).__name__}: its scheduler's latents are scaled by sigma_data")
    return AutoencoderCodec(_autoencoder(pipe, "AutoencoderDC"), pipe.vae.config.scaling_factor)


def _autoencoder(pipe: Any, expected: str = "AutoencoderKL", component: str = "vae") -> Any:
    """The pipeline's autoencoder, if its class is the one whose formula is known."""
    found = getattr(pipe, component, None)
    if expected not in {cls.__name__ for cls in type(found).__mro__}:
        raise UnsupportedError(
            f"{type(pipe).__name__} with a {type(found).__name__} has no known way from latents to pixels; "
            f"known: {expected}"
        )
    return found


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
