"""From a file's bytes to an RGB picture, its thumbnail, its perceptual hash and an encoder's input."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps, UnidentifiedImageError

from steerclear.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MAX_PIXELS = 80_000_000  # below Pillow's own limit, so that the error is ours
THUMBNAIL = 64  # side in pixels
# only formats that Pillow decodes by itself: for EPS and the like it starts other programs
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
SUFFIXES = frozenset(
    (".png", ".apng", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")
)


def read_image(
    source: str | Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decodes a picture to RGB: turned upright, transparency on white, the first frame of an animation.

    Args:
        source: the path of a file, or its bytes.
        name: what error messages call it; by default the path.
        max_pixels: larger pictures are refused.

    Returns:
        The picture; its `info["frames"]` is the number of frames.

    Raises:
        ImageError: if the file is missing, empty, broken, in a format outside FORMATS, or too large, or has
            floating point pixels, whose range is unknown.
    """
    name = name or (f"{len(source)} bytes" if isinstance(source, bytes) else str(source))
    try:
        raw = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {name!r}: {error.strerror or error}") from error
    if not raw:
        raise ImageError(f"cannot read {name!r}: the file is empty")
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"{name!r} has {width} × {height} pixels, more than the limit of {max_pixels:,}"
                )
            frames = int(getattr(image, "n_frames", 1)) if image.format != "MPO" else 1
            image.load()
            picture = _rgb(_upright(image), name)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name!r} has more pixels than the limit of {max_pixels:,}") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name!r} is no image in a supported format; supported are {', '.join(FORMATS)}"
        ) from error
    except Exception as error:  # a broken file makes Pillow's decoders raise nearly anything
        raise ImageError(f"{name!r} is broken: {error}") from error
    picture.info = {"frames": frames}
    return picture


def thumbnail(picture: Image.Image) -> bytes:
    """Returns the PNG bytes of an RGB picture at 64 × 64; a picture of that size keeps every pixel."""
    if picture.size != (THUMBNAIL, THUMBNAIL):
        picture = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    Image.merge("RGB", picture.split()).save(stream, "PNG")  # merging drops the source's metadata
    return stream.getvalue()


def square_tensor(picture: Image.Image, size: int) -> Tensor:
    """Resizes a picture to a square tensor, the input that every encoder shares.

    Bicubic with antialiasing. The picture is squeezed, not cropped: a crop could cut off what makes it
    protected.

    Args:
        picture: a picture of any size.
        size: the side of the square in pixels.

    Returns:
        (3, size, size) float32 in [0, 1].
    """
    import numpy as np
    import torch
    from torch.nn import functional as F

    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255
    if tuple(pixels.shape[1:]) == (size, size):
        return pixels.contiguous()
    resized = F.interpolate(pixels[None], (size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized[0].clamp(0, 1)


def phash(picture: Image.Image) -> str:
    """Returns the 64-bit perceptual hash of a picture as 16 hex digits.

    The bits are the signs of the lowest 8 × 8 DCT terms around their median. Small changes of size, quality
    or brightness flip few bits; compare two hashes with `hamming`.
    """
    import numpy as np

    side = 32
    grey = np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.float64)
    basis = _dct_rows(side)
    terms = (basis @ grey @ basis.T).flatten()
    bits = terms > np.median(
        terms[1:]
    )  # the first term is the mean grey, which says nothing about the drawing
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def hamming(a: str, b: str) -> int:
    """Returns in how many bits, 0 to 64, two hashes differ; up to about 10 means the same picture."""
    return (int(a, 16) ^ int(b, 16)).bit_count()


@cache
def _dct_rows(side: int, count: int = 8) -> np.ndarray:
    """The first `count` rows of the type II DCT matrix."""
    import numpy as np

    k, n = np.arange(count)[:, None], np.arange(side)[None, :]
    rows: np.ndarray = np.cos(np.pi * k * (2 * n + 1) / (2 * side))
    return rows


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF data says."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF data does not make the pixels unreadable
        return picture


def _rgb(picture: Image.Image, name: str) -> Image.Image:
    """The picture in RGB, 16-bit pixels scaled to 8 bit, transparency on white."""
    if picture.mode == "F":
        raise ImageError(f"{name!r} has floating point pixels, whose range is unknown; convert it to 8 bit")
    if picture.mode.startswith("I"):
        import numpy as np

        values = np.asarray(picture).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name!r} has 32-bit pixels, whose range is unknown; convert it to 8 bit")
        # Pillow would clip 16-bit values at 255 and make a nearly white picture
        return Image.fromarray((values / 257).round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")
