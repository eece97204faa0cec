"""After the last step of a pass: the latent that is decoded, which inpainting has pasted into once more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.steering.codecs import autoencoder_of, codec_for
from steerclear.steering.instance import overridden


@contextmanager
def noting_decoded(pipe: Any, kwargs: Mapping[str, Any], into: list[Tensor]) -> Iterator[None]:
    """Keep what the autoencoder is given to decode, where the call has a mask.

    Inpainting puts back what it keeps after the last step, where no step shows it.
    """
    autoencoder = autoencoder_of(pipe)
    if kwargs.get("mask_image") is None or autoencoder is None:
        yield
        return
    decode = autoencoder.decode

    @wraps(decode)
    def noting(latents: Tensor, *args: Any, **named: Any) -> Any:
        into.append(latents.detach())
        return decode(latents, *args, **named)

    with overridden(autoencoder, decode=noting):
        yield


def as_scheduled(pipe: Any, latents: Tensor) -> Tensor | None:
    """The autoencoder's latents (B, C, H, W) as the scheduler sees them; None where the family's way is not known."""
    try:
        return codec_for(pipe).scaled(latents)
    except UnsupportedError:
        return None
