"""Pictures in and out: uploads decoded with limits, and finished pictures as files of the wanted format."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from typing import Any, Literal

from PIL import Image

from steerclear.errors import ImageError
from steerclear.library.images import FORMATS, read_image
from steerclear.serve.errors import bad_field, shown

OutputFormat = Literal["png", "webp", "jpeg"]
QUALITY = 95  # of lossy formats where the client names none


def decode(raw: bytes, param: str, *, most_pixels: int) -> Image.Image:
    """An upload as an RGB picture.

    Args:
        raw: bytes of a file.
        param: the field that it came in.
        most_pixels: larger pictures are refused before they are decoded.

    Raises:
        ApiError: that names the field.
    """
    try:
        picture = read_image(raw, name=param, max_pixels=most_pixels)
    except ImageError as error:
        raise bad_field(param, str(error), code="invalid_image") from error
    picture.info = {}
    return picture


class Pixels:
    """What one request's pictures may have together: each is counted by its header before it is decoded.

    A PNG of 60 kB can say that it has 2²⁴ pixels, which are 50 MB in memory.

    Args:
        most: pixels of all pictures of the request.
        used: pixels of those that are decoded already.
    """

    def __init__(self, most: int, used: int = 0) -> None:
        self._most = most
        self._used = used

    def decode(self, raw: bytes, param: str) -> Image.Image:
        """An upload as an RGB picture, see `decode`.

        Raises:
            ApiError: that names the field, also where the pictures have too many pixels together.
        """
        pixels = _pixels_of(raw)
        if pixels <= self._most < self._used + pixels:
            raise bad_field(
                param,
                f"{param} brings the pictures of this request to {self._used + pixels:,} pixels; "
                f"{self._most:,} is the most here for all of them: send smaller or fewer pictures",
                code="invalid_image",
            )
        self._used += pixels
        return decode(raw, param, most_pixels=self._most)

    def decode_data_url(self, url: Any, param: str) -> Image.Image:
        """The picture in a `data:` URL.

        Raises:
            ApiError: for any other address: the server fetches nothing.
        """
        return self.decode(_of_data_url(url, param), param)


def _pixels_of(raw: bytes) -> int:
    """Pixels of a file by its header; 0 where it cannot be read, which decoding then says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(raw), formats=FORMATS) as opened:
                return opened.width * opened.height
        except Exception:  # whatever a broken file makes a decoder raise
            return 0


def decode_mask(raw: bytes, size: tuple[int, int], *, most_pixels: int) -> Image.Image:
    """A mask as inpainting takes it: white where the picture is painted anew.

    In the OpenAI API that is where the mask is transparent.

    Args:
        raw: bytes of a file.
        size: width and height of the picture that it is for.
        most_pixels: larger pictures are refused before they are decoded.

    Raises:
        ApiError: for a picture that cannot be read, is of another size, or has nothing transparent.
    """
    decode(raw, "mask", most_pixels=most_pixels)  # refuses what is broken or too large
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(raw), formats=FORMATS) as opened:
            if not opened.has_transparency_data:
                raise bad_field(
                    "mask", "mask has no transparency; send a PNG that is transparent where to paint anew"
                )
            alpha = opened.convert("RGBA").getchannel("A")
    if alpha.size != size:
        raise bad_field(
            "mask",
            f"mask has {alpha.width} × {alpha.height} pixels, image {size[0]} × {size[1]}; send them alike",
        )
    mask = alpha.point(lambda value: 255 if value < 128 else 0)
    if mask.getextrema() == (0, 0):
        raise bad_field(
            "mask", "mask is opaque everywhere, so nothing would be painted; make a part transparent"
        )
    return mask


def _of_data_url(url: Any, param: str) -> bytes:
    """The file in a `data:` URL."""
    if not isinstance(url, str) or not url.startswith("data:"):
        raise bad_field(
            param,
            f"{param} is {shown(url)}; this server fetches no addresses: send the picture itself as "
            "data:image/png;base64,…",
        )
    _, separator, encoded = url.partition(";base64,")
    if not separator:
        raise bad_field(param, f"{param} is {shown(url)}; send data:image/png;base64,…")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_field(
            param, f"{param} holds no valid base64 ({error}); send data:image/png;base64,…"
        ) from error


def encode(picture: Image.Image, format: OutputFormat, compression: int | None) -> str:
    """A finished picture as base64 of a file.

    Args:
        picture: RGB.
        format: of the file.
        compression: quality of a lossy format, 0 to 100; None for QUALITY. PNG keeps every pixel anyway.
    """
    stream = io.BytesIO()
    quality = {} if format == "png" else {"quality": QUALITY if compression is None else compression}
    picture.save(stream, format.upper(), **quality)
    return base64.b64encode(stream.getvalue()).decode()
