"""Options of a recipe as typed on the command line: LoRA files, ladder, filters, encoder, what to prefer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steerclear.cli.inputs import read_names
from steerclear.cli.recipe import Lora, Preferred
from steerclear.errors import ConfigError, InputError
from steerclear.fingerprints import file_fingerprint
from steerclear.library.content import SUFFIXES
from steerclear.library.images import read_image


def read_loras(values: Sequence[str]) -> tuple[Lora, ...]:
    """LoRA files as typed: FILE or FILE:SCALE.

    Raises:
        InputError: for a file that is not there or no .safetensors file, or a scale that is no number.
    """
    return tuple(_lora(value) for value in values)


def _lora(value: str) -> Lora:
    name, separator, scale = value.rpartition(":")
    if not separator or Path(value).is_file():
        name, scale = value, "1"
    path = Path(name)
    if not path.is_file():
        raise InputError(f"there is no LoRA file {name!r}; give FILE or FILE:SCALE")
    if path.suffix != ".safetensors":
        raise InputError(
            f"the LoRA {name!r} is no .safetensors file; others may run code when they are loaded"
        )
    try:
        return Lora(name, file_fingerprint(path), float(scale))
    except ValueError as error:
        raise InputError(
            f"the scale {scale!r} of the LoRA {name!r} is no number; give one like 0.8"
        ) from error


def read_ladder(text: str | None) -> tuple[str, ...]:
    """Strategy names as typed, separated by commas; none for the default ladder.

    Raises:
        ConfigError: for an empty name.
    """
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigError(f"the ladder {text!r} holds an empty name; write it like condition,rewrite")
    return read_names("strategy", names)


def read_filters(names: Sequence[str]) -> tuple[str, ...]:
    """Filter names as typed, without those that look at every picture anyway.

    Raises:
        InputError: for an empty name.
    """
    if not names:
        return ()
    from steerclear.filters.library import LIBRARY_FILTERS

    return tuple(name for name in dict.fromkeys(read_names("filter", names)) if name not in LIBRARY_FILTERS)


def read_encoder(name: str | None) -> str:
    """An encoder's name as typed, local paths made absolute; "" for none.

    Raises:
        InputError: for an empty name.
        EncoderError: for an unknown one.
    """
    if name is None:
        return ""
    from steerclear.encoders import encoder_name

    return encoder_name(*read_names("encoder", [name]))


def read_preferred(values: Sequence[str]) -> tuple[Preferred, ...]:
    """What should pull, as typed: an existing file is an image, anything else a text.

    Raises:
        InputError: for an empty text, or an image that is missing or unreadable.
    """
    return tuple(_preferred(value) for value in values)


def _preferred(value: str) -> Preferred:
    path = Path(value)
    try:
        is_file = path.is_file()
    except OSError:  # a text longer than any file name may be
        is_file = False
    if is_file:
        read_image(path)  # an unreadable one is bad input now, not after the model is loaded
        return Preferred(image=value, sha256=file_fingerprint(path))
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"there is no image {value!r} to prefer; give an existing file, or a text")
    if not value.strip():
        raise InputError(f"the text {value!r} to prefer is empty; say what the picture should resemble")
    return Preferred(text=value)
