"""After the last step of a run: the latent that is decoded, into which inpainting has pasted once more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch import Tensor

from steerclear.errors import UnsupportedError
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


def as_scheduled(pipe: Any, latents: Tensor) -> Tensor | None:
    """The autoencoder's latents (B, C, H, W) as the scheduler sees them; None for an unknown family."""
    try:
        return codec_for(pipe).scaled(latents)
    except UnsupportedError:
        return None
