"""After the last step: which latent is decoded, and whether its pixels are finite at every stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.passes import finite_rows
from steerclear.steering.autoencoder import autoencoder_of
from steerclear.steering.codecs import codec_for
from steerclear.steering.instance import overridden


@contextmanager
def recording_decoded(pipe: Any, kwargs: Mapping[str, Any], record: list[Tensor]) -> Iterator[None]:
    """Append every latent that the autoencoder decodes to `record`, where the call has a mask.

    Inpainting pastes the kept part back in after the last step, where no scheduler step shows it.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the arguments of the call; without a `mask_image` nothing is recorded.
        record: takes the autoencoder's latents (B, C, H, W).
    """
    autoencoder = autoencoder_of(pipe)
    if kwargs.get("mask_image") is None or autoencoder is None:
        yield
        return
    original = autoencoder.decode

    @wraps(original)
    def decode(latents: Tensor, *args: Any, **named: Any) -> Any:
        record.append(latents.detach())
        return original(latents, *args, **named)

    with overridden(autoencoder, decode=decode):
        yield


@contextmanager
def recording_finite(pipe: Any, record: dict[str, list[Tensor]]) -> Iterator[None]:
    """Record whether each row of pixels is finite, at every stage on its way to a picture, until the block
    ends.

    The stages are the end of the decoder, and the functions by which diffusers turns pixels into pictures.
    The picture itself no longer shows it: NaN becomes black.

    Args:
        pipe: a diffusers pipeline.
        record: stage → for each part (B, …) that passed there, whether each row is finite, (B,) on the part's
            device.
    """

    def note(place: str, pixels: Any) -> None:
        record.setdefault(place, []).extend(_finite(pixels))

    def noting(place: str, method: Callable[..., Any], argument: str) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **named: Any) -> Any:
            note(place, args[0] if args else named.get(argument))
            return method(*args, **named)

        return call

    autoencoder = autoencoder_of(pipe)
    with ExitStack() as stack:
        decoder = getattr(autoencoder, "decoder", None) or getattr(autoencoder, "out_block", None)
        if isinstance(decoder, torch.nn.Module):
            handle = decoder.register_forward_hook(lambda module, args, output: note("decoder", output))
            stack.callback(handle.remove)
        for stage in (pipe, getattr(pipe, "decoder_pipe", None)):
            processor = getattr(stage, "image_processor", None)
            for owner, method, argument in (
                (processor, "postprocess", "image"),
                (stage, "numpy_to_pil", "images"),
            ):
                if original := getattr(owner, method, None):
                    stack.enter_context(overridden(owner, **{method: noting(method, original, argument)}))
        yield


def _finite(pixels: Any) -> list[Tensor]:
    """Of each row of what a decoder returns or a picture is made of; nothing where it holds no numbers."""
    pixels = getattr(pixels, "sample", pixels)
    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(pixels)
    return [finite_rows(pixels)] if isinstance(pixels, Tensor) else []


def as_scheduled(pipe: Any, latents: Tensor) -> Tensor | None:
    """Convert an autoencoder's latents into the scheduler's scale.

    Args:
        pipe: a diffusers pipeline.
        latents: (B, C, H, W) as the autoencoder takes them.

    Returns:
        The latents as the scheduler sees them; None for an unknown family.
    """
    try:
        return codec_for(pipe).scaled(latents)
    except UnsupportedError:
        return None
