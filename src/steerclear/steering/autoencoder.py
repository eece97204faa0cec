"""The scheduler's latents to pixels and back, by a pipeline's autoencoder."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.steering.packing import Packing


class Codec(Protocol):
    """An autoencoder between the scheduler's latents and pixels."""

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], float32, of latents as the scheduler sees them."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Latents of images (B, 3, H, W) in [0, 1], sides a multiple of the autoencoder's factor."""
        ...


def autoencoder_of(pipe: Any) -> Any | None:
    """The pipeline's own autoencoder, under any of its names; None where there is none."""
    modules = (getattr(pipe, name, None) for name in ("vae", "movq", "vqgan"))
    return next((module for module in modules if module is not None), None)


class AutoencoderCodec:
    """The general form: unpack, undo scale and shift, decode, bring pixels to [0, 1]; and the way back.

    Args:
        autoencoder: the pipeline's own.
        scale: the autoencoder's latent is the scheduler's / scale + shift.
        shift: see scale.
        packing: how latents are packed into tokens; None where they are not.
        frames: the autoencoder is one for videos, and gets one frame.
        symmetric: its pixels lie in [-1, 1] rather than in [0, 1].
        factor: pixels per side of an unpacked latent pixel.
        **decode_kwargs: passed to the autoencoder's `decode`.

    Attributes:
        size: (height, width) in pixels for packed latents; None for square images.
    """

    def __init__(
        self,
        autoencoder: Any,
        *,
        scale: Tensor | float = 1.0,
        shift: Tensor | float = 0.0,
        packing: Packing | None = None,
        frames: bool = False,
        symmetric: bool = True,
        factor: int = 8,
        **decode_kwargs: Any,
    ) -> None:
        self.autoencoder = _in_safe_precision(autoencoder)
        self._scale, self._shift = scale, shift
        self._frames, self._symmetric = frames, symmetric
        self._decode_kwargs = decode_kwargs
        self.factor = factor
        self.packing = packing
        self.size: tuple[int, int] | None = None

    def checkpoint(self) -> None:
        """Turn on gradient checkpointing. Raises UnsupportedError for an autoencoder without it."""
        if not getattr(self.autoencoder, "_supports_gradient_checkpointing", False):
            raise UnsupportedError(
                f"{type(self.autoencoder).__name__} does not support gradient checkpointing"
            )
        self.autoencoder.enable_gradient_checkpointing()

    def decode(self, latents: Tensor) -> Tensor:
        """See `Codec`. Raises InputError for packed latents that do not make an image of the codec's size."""
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
        """See `Codec`."""
        pixels = images.to(self.autoencoder.dtype)
        pixels = pixels * 2 - 1 if self._symmetric else pixels
        if self._frames:
            pixels = pixels[:, :, None]
        encoded = self.autoencoder.encode(pixels, return_dict=False)[0]
        # the mean of the posterior: encoding an image twice must give the same latent
        return self.scaled(encoded if isinstance(encoded, Tensor) else encoded.mode())

    def scaled(self, latents: Tensor) -> Tensor:
        """The autoencoder's latents (B, C, H, W) as the scheduler sees them: the second half of `encode`.

        Those of an autoencoder for videos are (B, C, 1, H, W).
        """
        if self._frames:
            latents = latents[:, :, 0]
        if self.packing is not None:
            latents = self.packing.latents_to_map(latents)
        latents = (latents - _like(self._shift, latents)) * _like(self._scale, latents)
        return latents if self.packing is None else self.packing.map_to_tokens(latents)

    def pixels(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width in pixels of the image of one latent.

        Args:
            shape: (C, H, W), or packed (L, C).

        Raises:
            InputError: as `decode`.
        """
        if self.packing is not None and len(shape) == 2:
            rows, columns = self.packing.rows_and_columns(shape[0], self.size)
            return rows * self.packing.factor, columns * self.packing.factor
        return shape[-2] * self.factor, shape[-1] * self.factor


def _like(value: Tensor | float, x: Tensor) -> Tensor | float:
    """A tensor in the type and on the device of another; a number as it is."""
    return value.to(x) if isinstance(value, Tensor) else value


def _in_safe_precision(autoencoder: Any) -> Any:
    """The autoencoder itself, or a float32 copy where its config says that half precision overflows."""
    if autoencoder.dtype == torch.float16 and getattr(autoencoder.config, "force_upcast", False):
        return copy.deepcopy(autoencoder).float()
    return autoencoder
