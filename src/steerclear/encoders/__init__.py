"""Encoders: images in, unit-length embeddings out."""

from __future__ import annotations

from steerclear.encoders.base import Encoder, check_embedding

__all__ = ["Encoder", "check_embedding", "default_encoders"]


def default_encoders() -> list[Encoder]:
    """The encoders that a new library is built with: the embedded copy descriptor."""
    from steerclear.encoders.embedded import CopyDescriptor

    return [CopyDescriptor.default()]
