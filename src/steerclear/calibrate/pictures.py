"""The pictures that a calibration is made of: where each comes from, and at what size it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from steerclear.library.pictures import original
from steerclear.pixels import to_image

if TYPE_CHECKING:
    from steerclear.library import Library

SHORT_SIDE = (64, 256)  # pixels: of a thumbnail; beyond which filters see nothing more
LONGEST = 1024  # pixels


class Picture(NamedTuple):
    """A picture to calibrate on, and where it comes from: a file, or prompt, seed and settings.

    Attributes:
        image: the picture.
        origin: for messages.
        prompt: what it was generated from; None for a file.
    """

    image: Image.Image
    origin: str
    prompt: str | None = None


def protected_pictures(library: Library, most: int) -> list[tuple[str, Image.Image]]:
    """Read the pictures of a library: all, or a sample at even distances.

    A picture is read from its original file where that still exists, else from the stored thumbnail.

    Args:
        library: the protected pictures.
        most: how many, at least 1.

    Returns:
        (id, picture) pairs; the short side of each picture is within SHORT_SIDE.
    """
    items = library.items()
    count = min(most, len(items))
    chosen = [items[i * len(items) // count] for i in range(count)]
    thumbnails = dict(zip(*library.thumbnails([item.id for item in chosen]), strict=True))
    return [
        (item.id, resized(original(item, library.uri) or to_image(thumbnails[item.id]))) for item in chosen
    ]


def resized(picture: Image.Image) -> Image.Image:
    """The picture with its short side within SHORT_SIDE and its long one at most LONGEST pixels."""
    short = min(picture.size)
    factor = min(max(short, SHORT_SIDE[0]), SHORT_SIDE[1]) / short
    size = (
        min(LONGEST, round(picture.width * factor)),
        min(LONGEST, round(picture.height * factor)),
    )
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
