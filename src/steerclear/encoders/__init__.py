"""Encoders: images in, unit-length embeddings out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import EncoderError

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT", "Encoder", "check_embedding", "encoder_name", "load_encoder"]

DEFAULT = "descriptor"  # the embedded copy descriptor
KINDS = "descriptor, clip, transformers:NAME_OR_FOLDER, sscd:FILE, vae:MODEL"


def encoder_name(text: str) -> str:
    """An encoder's name as a library remembers it: local paths made absolute, so that it opens from any folder.

    text: `descriptor` or `clip`, which ship inside, or one of KINDS. Raises EncoderError for anything else.
    """
    kind, _, source = text.partition(":")
    if text in ("descriptor", "clip"):
        return text
    if kind not in ("transformers", "sscd", "vae") or not source:
        raise EncoderError(f"there is no encoder {text!r}; there are {KINDS}")
    return f"{kind}:{Path(source).resolve()}" if Path(source).exists() else text


def load_encoder(name: str, device: torch.device | str = "cpu") -> Encoder:
    """The encoder of that name, as `encoder_name` gives it and a library remembers it, on a device.

    It takes images on any device. Raises EncoderError where it is unknown, missing or damaged.
    """
    kind, _, source = name.partition(":")
    if name == "descriptor":
        from steerclear.encoders.embedded import CopyDescriptor

        return CopyDescriptor.default(device)
    if name == "clip":
        from steerclear.emoji import MODEL_FOLDER
        from steerclear.encoders.embedded import Clip

        return Clip.load(MODEL_FOLDER, device)
    from steerclear.encoders.pretrained import LatentEncoder, SscdEncoder, TransformersEncoder

    if kind == "transformers" and source:
        return TransformersEncoder.load(source, name, device)
    if kind == "sscd" and source:
        return SscdEncoder.load(source, name, device)
    if kind == "vae" and source:
        return LatentEncoder.load(source, name, device)
    raise EncoderError(f"there is no encoder {name!r}; there are {KINDS}")
