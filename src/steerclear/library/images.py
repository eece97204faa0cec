"""From a file's bytes to RGB pictures; from a picture to its thumbnail, hash and an encoder's input."""

from __future__ import annotations

import io
import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps, UnidentifiedImageError, features

from steerclear.errors import ImageError, InputError
from steerclear.library.colour import eight_bit, shown
from steerclear.library.content import (
    CAMERA_RAW,
    EMPTY,
    HEAD,
    UNKNOWN,
    Content,
    content_of,
    is_camera_raw,
    jxl_header,
)
from steerclear.library.files import read_file

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MAX_PIXELS = 80_000_000  # below Pillow's own limit, so that the error is ours
LARGEST = 2**24  # pixels of a picture that is worked with; a larger one is reduced as soon as it is decoded
MAX_FRAMES = 64  # frames of an animation that are looked at, evenly spaced over a longer one
THUMBNAIL = 64  # side in pixels
LEAST_NOISE = 0.05  # mean difference of neighbouring pixels in a thumbnail from which noise is no blank
# only formats that Pillow decodes by itself: for EPS and the like it starts other programs
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
FORMATS_EXTRA = "pip install 'steerclear[formats]'"  # HEIC and JPEG XL


def read_image(
    source: str | Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decodes a picture to RGB: turned upright, in sRGB, nothing transparent.

    Colours are converted by the embedded profile. Transparency lies on white, or on black where white would
    hide the drawing. Of an animation it is the first frame that is not blank, among those that `read_frames`
    reads, or the first of all where each is blank.

    Args:
        source: the path of a file, or its bytes.
        name: what error messages call it; by default the path.
        max_pixels: larger pictures are refused.

    Returns:
        The picture; its `info["frames"]` is the number of frames, `info["frame"]` which of them it is,
        counted from 1.

    Raises:
        ImageError: if the file is missing, empty, broken, too large, in a format that cannot be read here, or
            has floating point pixels, whose range is unknown.
    """
    with closing(read_frames(source, name=name, max_pixels=max_pixels)) as frames:
        first = next(frames)
        if first.info["frames"] == 1 or not is_blank(first):
            return first
        return next((frame for frame in frames if not is_blank(frame)), first)


def read_frames(
    source: str | Path | bytes,
    *,
    limit: int = MAX_FRAMES,
    name: str | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Generator[Image.Image]:
    """Decodes the frames of an animation, or the pages of a TIFF, each as `read_image` does.

    Only a single frame is in memory at a time.

    Args:
        source: the path of a file, or its bytes.
        limit: of a file with more frames so many are read, evenly spaced, the first and the last among them.
        name: what error messages call it; by default the path.
        max_pixels: files with a larger frame are refused.

    Yields:
        The frames in order; `info["frames"]` and `info["frame"]` as of `read_image`.

    Raises:
        ImageError: as of `read_image`, when the iteration comes to what cannot be read.
        InputError: for a limit below 1.
    """
    if limit < 1:
        raise InputError(f"the limit of frames must be at least 1, got {limit}")
    name = name or (f"{len(source)} bytes" if isinstance(source, bytes) else str(source))
    try:
        raw = source if isinstance(source, bytes) else read_file(source)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        if isinstance(error, InputError):
            raise ImageError(str(error)) from error
        reason = error.strerror if isinstance(error, OSError) else None
        raise ImageError(f"cannot read {name!r}: {reason or error}") from error
    with _named_errors(name, max_pixels):
        opened = _opened(raw, name, max_pixels)
    with opened:
        with _named_errors(name, max_pixels):
            # what else an MPO file holds are other views of its picture, such as its depth
            frames = int(getattr(opened, "n_frames", 1)) if opened.format != "MPO" else 1
            key = _key(opened)
        for index in _evenly_spaced(frames, limit):
            with _named_errors(name, max_pixels):
                picture = _frame(opened, index=index, key=key, name=name, max_pixels=max_pixels)
            picture.info = {"frames": frames, "frame": index + 1}
            yield picture


def _opened(raw: bytes, name: str, max_pixels: int) -> Image.Image:
    """A file whose header was read. Raises ImageError for what cannot be read here, with the way out."""
    content = content_of(raw[:HEAD])
    if content == EMPTY:
        raise ImageError(f"cannot read {name!r}: the file is empty")
    if content == CAMERA_RAW or (content.name == "TIFF" and is_camera_raw(raw)):
        raise ImageError(
            f"{name!r} is a camera's raw file, which every program develops in its own way; add the picture "
            "that you made of it"
        )
    if content.name == "HEIC":
        return _with_extra(
            "pillow_heif.as_plugin", opener="HeifImageFile", raw=raw, name=name, content=content
        )
    if content.name == "JPEG XL":
        header = jxl_header(raw)
        # its decoder makes all pixels as it opens the file
        _check_size(header.width, height=header.height, name=name, max_pixels=max_pixels)
        if header.animated:
            raise ImageError(
                f"{name!r} is an animation in JPEG XL, of which only the first frame could be read; convert "
                "it to WebP, PNG or GIF"
            )
        return _with_extra(
            "pillow_jxl.JpegXLImagePlugin", opener="JXLImageFile", raw=raw, name=name, content=content
        )
    if content.name == "AVIF" and not features.check("avif"):
        raise ImageError(
            f"{name!r} is a picture in the format AVIF; to read it, run: pip install 'pillow>=11.3'"
        )
    if content.picture and content.name not in FORMATS:
        raise ImageError(
            f"{name!r} is a picture in the format {content.name}, which is not read; convert it to PNG"
        )
    try:
        return Image.open(io.BytesIO(raw), formats=FORMATS)
    except UnidentifiedImageError as error:
        if content.picture:
            raise ImageError(f"{name!r} is broken: its {content.name} header cannot be read") from error
        what = "" if content == UNKNOWN else f" but {content.name}"
        raise ImageError(
            f"{name!r} is no image in a supported format{what}; supported are {', '.join(FORMATS)}, and HEIC "
            "and JPEG XL by an extra"
        ) from error


def _with_extra(module: str, opener: str, raw: bytes, name: str, content: Content) -> Image.Image:
    """A file opened by a package of the extra `formats`, without registering its formats with Pillow."""
    try:
        file_class = getattr(import_module(module), opener)
    except ImportError as error:
        raise ImageError(
            f"{name!r} is a picture in the format {content.name}; run: {FORMATS_EXTRA}"
        ) from error
    opened: Image.Image = file_class(io.BytesIO(raw))
    return opened


def _key(opened: Image.Image) -> int | tuple[int, ...] | None:
    """The colour that a PNG declares transparent, on the scale of the pixels that Pillow makes of it.

    The file has it on the scale of its own samples, and Pillow leaves it there: grey of 2 and 4 bit becomes 8
    bit by its pixels alone, and of 16 bit colours only the upper byte is kept.
    """
    key: Any = opened.info.get("transparency")
    tile = getattr(opened, "tile", None)
    if opened.format != "PNG" or isinstance(key, bytes) or not tile:
        return None
    raw_mode = str(tile[0][3])
    if isinstance(key, int) and raw_mode in ("L;2", "L;4"):
        return int(key * 255 // (2 ** int(raw_mode[-1]) - 1))
    if isinstance(key, tuple) and ";16" in raw_mode:
        return tuple(value >> 8 for value in key)
    return None


def is_blank(picture: Image.Image) -> bool:
    """Returns whether a picture, as its thumbnail shows it, has nothing by which a copy could be told.

    That is neither anything that the copy detector recognises, nor noise, which it does not look at.
    """
    from steerclear.copy_detection import is_recognisable

    pixels = square_tensor(_small(picture), THUMBNAIL)
    noise = float(pixels.diff(dim=1).abs().mean() + pixels.diff(dim=2).abs().mean()) / 2
    return noise < LEAST_NOISE and not is_recognisable(pixels)


def thumbnail(picture: Image.Image) -> bytes:
    """Returns the PNG bytes of an RGB picture at 64 × 64; a picture of that size keeps every pixel."""
    stream = io.BytesIO()
    Image.merge("RGB", _small(picture).split()).save(stream, "PNG")  # merging drops the source's metadata
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
    or brightness flip few: hashes that differ in at most about ten bits mean the same picture.
    """
    import numpy as np

    side = 32
    grey = np.asarray(picture.convert("L").resize((side, side), Image.Resampling.BOX), dtype=np.float64)
    basis = _dct_rows(side)
    terms = (basis @ grey @ basis.T).flatten()
    # the first term is the mean grey, which says nothing about the drawing
    bits = terms > np.median(terms[1:])
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


@cache
def _dct_rows(side: int, count: int = 8) -> np.ndarray:
    """The first `count` rows of the type II DCT matrix."""
    import numpy as np

    k, n = np.arange(count)[:, None], np.arange(side)[None, :]
    rows: np.ndarray = np.cos(np.pi * k * (2 * n + 1) / (2 * side))
    return rows


def _frame(
    opened: Image.Image, index: int, key: int | tuple[int, ...] | None, name: str, max_pixels: int
) -> Image.Image:
    """A frame of an opened file, decoded. key: the transparent colour, where Pillow has it wrong."""
    opened.seek(index)
    _check_size(opened.width, height=opened.height, name=name, max_pixels=max_pixels)
    opened.load()
    if key is not None and "transparency" in opened.info:
        opened.info["transparency"] = key
    reduced = _reduced(eight_bit(opened, name))
    # the decoder of JPEG XL has turned it already
    return shown(reduced if opened.format == "JXL" else _upright(reduced))


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(f"{name!r} has {width} × {height} pixels, more than the limit of {max_pixels:,}")


def _reduced(picture: Image.Image) -> Image.Image:
    """A picture with at most about LARGEST pixels: what follows takes many times its memory."""
    factor = math.ceil(math.sqrt(picture.width * picture.height / LARGEST))
    if factor == 1:
        return picture
    if picture.mode in ("1", "P", "PA"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    reduced = picture.reduce(factor)
    reduced.info = picture.info  # the colour profile among them
    return reduced


@contextmanager
def _named_errors(name: str, max_pixels: int) -> Iterator[None]:
    """Whatever Pillow raises, as an ImageError that names the file."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{name!r} has more pixels than the limit of {max_pixels:,}") from error
    except Exception as error:  # a broken file makes Pillow's decoders raise nearly anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(f"{name!r} is broken: {reason}") from error


def _evenly_spaced(count: int, limit: int) -> Iterable[int]:
    """At most `limit` of `count` indices, from the first to the last."""
    if count <= limit:
        return range(count)
    if limit == 1:
        return range(1)
    return (round(i * (count - 1) / (limit - 1)) for i in range(limit))


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF data says."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF data does not make the pixels unreadable
        return picture


def _small(picture: Image.Image) -> Image.Image:
    """The picture at 64 × 64; of that size already, it keeps every pixel."""
    if picture.size == (THUMBNAIL, THUMBNAIL):
        return picture
    return picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
