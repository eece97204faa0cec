"""Encoders: images in, unit-length embeddings out."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from steerclear import plugins
from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import ConfigError, EncoderError

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT", "Encoder", "check_consent", "check_embedding", "encoder_name", "load_encoder"]

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


def check_consent(name: str, file: str) -> None:
    """Refuse an encoder that only a file names, where it would be loaded from somewhere else.

    What a library's metadata or a picture's recipe names must neither run code, nor read other files, nor
    reach a model hub: a TorchScript file is a program. The encoders that ship inside need no consent.

    Args:
        name: of the encoder, in the file.
        file: what names it, for the error message.

    Raises:
        ConfigError: for `module:object`, and for a registered kind with a source.
    """
    kind, _, source = name.partition(":")
    advice = f"pass encoder={name!r}, or --encoder {name} on the command line"
    plugins.check_registered("encoder", kind, file, advice=advice)
    if source:
        raise ConfigError(
            f"{file} names the encoder {name!r}, which would be loaded from {source!r}, and a name in a file "
            f"loads nothing. If you trust it, {advice}"
        )


def load_encoder(
    name: str,
    device: torch.device | str = "cpu",
    *,
    fingerprint: str | None = None,
    trust: bool = False,
    allow_download: bool = False,
) -> Encoder:
    """Loads an encoder by its name onto a device. It takes images on any device.

    A registered kind is a callable (source, name, device) → Encoder. A `module:object` is an encoder, or a
    callable without arguments that makes one; its `name` must be that very `module:object`, since a library
    finds it by its name.

    Args:
        name: as `encoder_name` returns it. A name that the user did not give needs `check_consent` first.
        device: where its weights go.
        fingerprint: that it must have. An encoder whose file is a program is compared before it is run.
        trust: also load a format that carries code, which is TorchScript.
        allow_download: also ask a model hub for what is not on this machine.

    Raises:
        EncoderError: if it is unknown, missing or damaged, or a program with another fingerprint.
        ConfigError: for a format that carries code, without `trust`.
    """
    kind, _, source = name.partition(":")
    if plugins.is_registered("encoder", kind):
        load = plugins.load("encoder", kind)
        options = {"fingerprint": fingerprint, "trust": trust, "allow_download": allow_download}
        known = signature(load).parameters
        encoder: Encoder = load(source, name, device, **{n: v for n, v in options.items() if n in known})
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
