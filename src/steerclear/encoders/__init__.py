"""Encoders: images in, unit-length embeddings out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steerclear import plugins
from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import ConfigError, EncoderError

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT", "Encoder", "check_embedding", "encoder_name", "load_encoder"]

DEFAULT = "descriptor"  # the embedded copy descriptor
KINDS = "descriptor, clip, transformers:NAME_OR_FOLDER, sscd:FILE, vae:MODEL, or module:object of your own"
NEED_SOURCE = ("transformers", "sscd", "vae")


def encoder_name(text: str) -> str:
    """Returns an encoder's name as a library keeps it, with local paths made absolute.

    Args:
        text: `KIND` or `KIND:SOURCE` of a registered kind (`descriptor`, `clip`, `transformers:…`, `sscd:…`,
            `vae:…`), or `module:object`.

    Raises:
        EncoderError: for any other text.
    """
    kind, _, source = text.partition(":")
    if not plugins.is_registered("encoder", kind):
        if not source or not all(part.isidentifier() for part in kind.split(".")):
            raise EncoderError(f"there is no encoder {text!r}; there are {KINDS}")
        return text
    if kind in NEED_SOURCE and not source:
        raise EncoderError(f"the encoder {text!r} lacks its source, after the colon; there are {KINDS}")
    return f"{kind}:{Path(source).resolve()}" if source and Path(source).exists() else text


def load_encoder(name: str, device: torch.device | str = "cpu") -> Encoder:
    """Loads an encoder by its name onto a device. It takes images on any device.

    A registered kind is a callable (source, name, device) → Encoder. A `module:object` is an encoder, or a
    callable without arguments that makes one; its `name` must be that very `module:object`, since a library
    finds it by its name.

    Args:
        name: as `encoder_name` returns it. Only a name that the user gave may be a `module:object`: see
            `plugins.check_registered`.
        device: where its weights go.

    Raises:
        EncoderError: if it is unknown, missing or damaged.
    """
    kind, _, source = name.partition(":")
    if plugins.is_registered("encoder", kind):
        encoder: Encoder = plugins.load("encoder", kind)(source, name, device)
        return encoder
    if not source:
        raise EncoderError(f"there is no encoder {name!r}; there are {KINDS}")
    try:
        entry = plugins.load("encoder", name)
    except ConfigError as error:
        raise EncoderError(f"there is no encoder {name!r}; there are {KINDS}: {error}") from error
    ready = isinstance(entry, Encoder) and not isinstance(entry, type)
    custom = entry if ready else plugins.make("encoder", name, entry)
    if not isinstance(custom, Encoder) or custom.name != name:
        what = f"has the name {custom.name!r}" if isinstance(custom, Encoder) else "gives no encoder"
        raise EncoderError(f"{name!r} {what}; it must be an encoder whose name is {name!r}")
    return custom
