"""From a source to an entry: decode a picture, then embed a block of them, here or on a cluster."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.encoders.base import check_embedding
from steerclear.errors import InputError
from steerclear.library.images import is_blank, phash, read_image, square_tensor, thumbnail
from steerclear.library.schema import Entry, Item
from steerclear.library.sources import Source

if TYPE_CHECKING:
    from torch import Tensor

    from steerclear.encoders.base import Encoder


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture that was decoded, ready to be embedded.

    Attributes:
        item: what the library will know about it.
        thumbnail: PNG bytes, RGB, 64 × 64.
        inputs: side in pixels → (3, side, side) in [0, 1], for every size that an encoder expects.
        name: its own file name.
    """

    item: Item
    thumbnail: bytes
    inputs: dict[int, Tensor]
    name: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that will not be added.

    Attributes:
        source: the reference of its source.
        reason: why it cannot be added; None for an exact duplicate.
    """

    source: str
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Preprocessor:
    """Reads and decodes one source. It can be sent to other processes.

    Attributes:
        defaults: the columns of Item (owner, licence, note, tags, policy) that hold unless a source says
            otherwise.
        captions: path, file name or stem → caption.
        max_pixels: larger pictures are refused.
        sizes: the sides in pixels of the square images that the encoders expect.
        known_hashes: SHA-256 of every file that the library holds already; these are skipped.
    """

    defaults: Mapping[str, Any]
    captions: Mapping[str, str]
    max_pixels: int
    sizes: frozenset[int]
    known_hashes: set[str]

    def __call__(self, source: Source) -> Prepared | Skipped:
        """Returns the decoded picture, or why there is none. It never raises."""
        try:
            _check_text("name", source.ref)
            raw = source.read()
            sha256 = hashlib.sha256(raw).hexdigest()
            if sha256 in self.known_hashes:
                return Skipped(source.ref, None)
            picture = read_image(raw, name=source.ref, max_pixels=self.max_pixels)
            if is_blank(picture):
                from steerclear.copy_detection import BLANK

                return Skipped(source.ref, BLANK)
            columns = _columns(source, self.defaults, self.captions)
            if (frames := picture.info["frames"]) > 1:
                which = f"frame {picture.info['frame']} of {frames}"
                columns["note"] = "; ".join(filter(None, (columns["note"], which)))
            return Prepared(
                item=Item(source=source.ref, sha256=sha256, phash=phash(picture), **columns),
                thumbnail=thumbnail(picture),
                inputs={size: square_tensor(picture, size) for size in self.sizes},
                name=source.file_name,
            )
        except Exception as error:  # one bad file must not stop the others
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return Skipped(source.ref, " ".join(text.split())[:1000] or type(error).__name__)


def embed_block(block: Sequence[Prepared | Skipped], encoders: Sequence[Encoder]) -> list[Entry | Skipped]:
    """Embeds the pictures of a block with every encoder.

    Args:
        block: what a Preprocessor returned.
        encoders: all encoders of the library.

    Returns:
        An entry for each picture, and Skipped for those that could not be decoded or embedded.
    """
    skipped = [picture for picture in block if isinstance(picture, Skipped)]
    entries, failed = _embed([picture for picture in block if isinstance(picture, Prepared)], encoders)
    return [*skipped, *entries, *failed]


def _columns(source: Source, defaults: Mapping[str, Any], captions: Mapping[str, str]) -> dict[str, Any]:
    """The item's descriptive columns: from its list or shard, else the defaults."""
    columns = {"id": "", "caption": "", **defaults, **source.fields}
    if "caption" not in source.fields:
        keys = (source.ref, source.file_name, Path(source.file_name).stem)
        columns["caption"] = next((captions[key] for key in keys if key in captions), "")
    tags = columns["tags"]
    columns["tags"] = tuple(
        tag.strip() for tag in (re.split("[;,]", tags) if isinstance(tags, str) else tags) if tag.strip()
    )
    columns |= {name: str(value) for name, value in columns.items() if name != "tags"}
    for name, value in columns.items():
        for text in (value,) if isinstance(value, str) else value:
            _check_text(name, text)
    return columns


def _check_text(name: str, text: str) -> None:
    """Raises InputError for a text that no library can keep: bytes in it were no UTF-8 to begin with."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        advice = "rename the file" if name == "name" else "correct it"
        raise InputError(f"its {name} {text[:100]!r} is no valid UTF-8; {advice}") from error


def _embed(pictures: Sequence[Prepared], encoders: Sequence[Encoder]) -> tuple[list[Entry], list[Skipped]]:
    """Entries with vectors, and the pictures that an encoder cannot embed."""
    if not pictures:
        return [], []
    try:
        vectors = {
            encoder.name: _vectors(encoder, [picture.inputs[int(encoder.size)] for picture in pictures])
            for encoder in encoders
        }
    except Exception as error:  # out of memory, or one picture that gives NaN: try each alone
        from steerclear.devices import raise_if_lost  # imports torch, which --help does not need

        raise_if_lost(error)
        if len(pictures) == 1:
            return [], [Skipped(pictures[0].item.source, str(error))]
        results = [_embed([picture], encoders) for picture in pictures]
        entries = [entry for embedded, _ in results for entry in embedded]
        return entries, [skipped for _, failed in results for skipped in failed]
    return [
        Entry(
            picture.item,
            thumbnail=picture.thumbnail,
            vectors={n: rows[i] for n, rows in vectors.items()},
            name=picture.name,
        )
        for i, picture in enumerate(pictures)
    ], []


def _vectors(encoder: Encoder, inputs: Sequence[Tensor]) -> Tensor:
    """(B, dim) float32 embeddings on the CPU."""
    import torch

    with torch.no_grad():
        embedding = check_embedding(encoder(torch.stack(list(inputs))), encoder, len(inputs))
    return embedding.float().cpu()
