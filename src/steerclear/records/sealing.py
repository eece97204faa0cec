"""What may be purged: pictures are encrypted, and the chain holds a commitment that outlives the content."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from steerclear.errors import ConfigError, RecordsError

KEY_BYTES = 32  # AES-256
NONCE_BYTES = 12
SALT_BYTES = 16
KEY_VARIABLE = "STEERCLEAR_RECORDS_KEY"  # holds the key itself, in base64
KEY_FILE_VARIABLE = "STEERCLEAR_RECORDS_KEY_FILE"

Prompts = Literal["text", "hash"]


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of an incident beside its figures.

    Attributes:
        prompts: "text" keeps the prompt and whatever else a request says in words, until it is purged; "hash"
            keeps the prompt's SHA-256 alone. Equal prompts can then be told, and whoever guesses a prompt can
            confirm the guess.
        pictures: for how long a thumbnail of what was withheld is kept; None keeps none.
        key: 32 bytes that encrypt the thumbnails, see `read_key`; needed to keep and to see them.

    Raises:
        ConfigError: for thumbnails without a key, and values that make no sense.
    """

    prompts: Prompts = "text"
    pictures: timedelta | None = None
    key: bytes | None = None

    def __post_init__(self) -> None:
        if self.prompts not in ("text", "hash"):
            raise ConfigError(f"prompts is {self.prompts!r}; there are text and hash")
        if self.pictures is not None and self.pictures <= timedelta(0):
            raise ConfigError(f"pictures are kept for {self.pictures}; give a period above zero, or None")
        if self.pictures is not None and self.key is None:
            raise ConfigError(
                f"thumbnails are kept encrypted only, and there is no key; set {KEY_FILE_VARIABLE} or "
                f"{KEY_VARIABLE}"
            )
        if self.key is not None and len(self.key) != KEY_BYTES:
            raise ConfigError(f"the key has {len(self.key)} bytes; it needs {KEY_BYTES}")


def read_key(file: str | Path | None = None) -> bytes | None:
    """The key that encrypts pictures, from outside the database.

    Args:
        file: holds the key in base64; by default the file that STEERCLEAR_RECORDS_KEY_FILE names, or else
            STEERCLEAR_RECORDS_KEY itself.

    Returns:
        32 bytes; None where nothing names a key.

    Raises:
        ConfigError: if it cannot be read, or is no such key.
    """
    path = file or os.environ.get(KEY_FILE_VARIABLE)
    if path:
        try:
            text, source = Path(path).read_text("ascii"), f"the file {str(path)!r}"
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the key in {str(path)!r}: {error}") from error
    else:
        text, source = os.environ.get(KEY_VARIABLE, ""), KEY_VARIABLE
        if not text:
            return None
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:  # the message never shows what was read
        raise ConfigError(
            f"{source} holds no key of {KEY_BYTES} bytes in base64; make one with "
            f"openssl rand -base64 {KEY_BYTES}"
        )
    return key


def seal(key: bytes, plain: bytes, place: str) -> bytes:
    """Encrypts a content with AES-256-GCM, bound to its place: moved to another row it does not open.

    Args:
        key: 32 bytes.
        plain: the content.
        place: the record and the content's name.
    """
    aes, nonce = _aes(key), secrets.token_bytes(NONCE_BYTES)
    sealed: bytes = aes.encrypt(nonce, plain, place.encode())
    return nonce + sealed


def unseal(key: bytes, sealed: bytes, place: str) -> bytes:
    """Decrypts what `seal` has made.

    Raises:
        RecordsError: with another key, and for a changed content.
    """
    from cryptography.exceptions import InvalidTag

    try:
        plain: bytes = _aes(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.encode())
    except (InvalidTag, ValueError) as error:
        raise RecordsError(
            f"{place} does not open with this key; give the key that was set when it was kept"
        ) from error
    return plain


def commitment(salt: bytes, value: bytes) -> str:
    """What the chain holds of a content: SHA-256 of a random salt and the bytes as they are stored.

    The salt is purged with the content. Without it nobody can tell what the content was, not even by
    guessing, while the chain stays whole.
    """
    return hashlib.sha256(salt + value).hexdigest()


def new_salt() -> bytes:
    """A salt for one content."""
    return secrets.token_bytes(SALT_BYTES)


def _aes(key: bytes):  # type: ignore[no-untyped-def]
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ConfigError(
            "encrypted thumbnails need cryptography; run: pip install 'steerclear[serve]'"
        ) from error
    return AESGCM(key)
