"""From a decoded picture to what it shows: 8 bit, in sRGB by its colour profile, nothing transparent."""

from __future__ import annotations

import io
from math import sqrt

from PIL import Image, ImageChops, ImageCms

from steerclear.errors import ImageError

SAME_COLOURS = 2  # largest difference, of 255, between sRGB and a profile that is taken for it
LEAST_CONTRAST = 0.05  # with white, below which a drawing cannot be seen on it
_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}  # a profile's colour space → the pixels it describes
_STEPS = range(0, 256, 51)


def eight_bit(picture: Image.Image, name: str) -> Image.Image:
    """Returns a picture with 8 bits a channel, and its transparency as a channel where it was one colour.

    Args:
        picture: as Pillow decodes it, of any mode; `info["transparency"]` is the colour that does not show.
        name: what error messages call it.

    Raises:
        ImageError: for floating point or 32-bit pixels, whose range is unknown.
    """
    if picture.mode == "F":
        raise ImageError(f"{name!r} has floating point pixels, whose range is unknown; convert it to 8 bit")
    key = picture.info.get("transparency")
    if not picture.mode.startswith("I"):
        if key is None or picture.mode in ("P", "PA"):
            return picture
        converted = picture.convert("LA" if picture.mode in ("1", "L") else "RGBA")
        converted.info = {k: value for k, value in picture.info.items() if k != "transparency"}
        return converted
    import numpy as np

    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{name!r} has 32-bit pixels, whose range is unknown; convert it to 8 bit")
    # Pillow would clip 16-bit values at 255 and make a nearly white picture
    scale = (np.arange(65536) / 257).round().astype(np.uint8)
    grey = Image.fromarray(scale[values])
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(values == key, np.uint8(0), np.uint8(255))))
    grey.info = {k: value for k, value in picture.info.items() if k != "transparency"}
    return grey


def shown(picture: Image.Image) -> Image.Image:
    """Returns the RGB picture that a viewer shows: colours in sRGB, transparency on a ground.

    The ground is white, or black where the drawing is nearly white: less than LEAST_CONTRAST from white,
    as the root mean square over the visible pixels, weighted by their opacity.

    Args:
        picture: with 8 bits a channel; `info["icc_profile"]` is its colour profile.
    """
    profile = picture.info.get("icc_profile")
    if not picture.has_transparency_data:
        return _in_srgb(picture, profile)
    layers = picture.convert("RGBA")
    # grey stays grey, since its profile describes grey pixels only
    colours = picture.convert("L") if picture.mode in ("L", "LA") else layers.convert("RGB")
    drawing = _in_srgb(colours, profile)
    drawing.putalpha(layers.getchannel("A"))
    return _on_its_ground(drawing)


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """An opaque picture in sRGB, by relative colorimetric rendering.

    Without a profile, or with one that is broken or describes other pixels, the pixels stay as they are.
    """
    if picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode not in ("L", "CMYK"):
        picture = picture.convert("RGB")
    if not profile:
        return picture.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _MODES.get(source.profile.xcolor_space.strip())
        if mode == "RGB" and picture.mode == "L":
            picture = picture.convert("RGB")
        if mode != picture.mode:
            return picture.convert("RGB")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode != "CMYK" and _is_srgb(transform, mode):
            return picture.convert("RGB")
        return transform.apply(picture)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture.convert("RGB")


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform to sRGB changes colours by rounding only: their pixels then stay what they are."""
    if mode == "L":
        colours = Image.frombytes("L", (256, 1), bytes(range(256)))
    else:
        cube = bytes(value for r in _STEPS for g in _STEPS for b in _STEPS for value in (r, g, b))
        colours = Image.frombytes("RGB", (len(cube) // 3, 1), cube)
    change = ImageChops.difference(transform.apply(colours), colours.convert("RGB")).histogram()
    return not any(count for i, count in enumerate(change) if i % 256 > SAME_COLOURS)


def _on_its_ground(drawing: Image.Image) -> Image.Image:
    """An RGBA drawing on white, or on black where white would hide it."""
    on_white = _on(drawing, 255)
    red, green, blue = on_white.split()
    left = ImageChops.invert(ImageChops.darker(ImageChops.darker(red, green), blue))
    visible = _root_mean_square(drawing.getchannel("A"))
    hidden = visible > 0 and _root_mean_square(left) < LEAST_CONTRAST * visible
    return _on(drawing, 0) if hidden else on_white


def _on(drawing: Image.Image, ground: int) -> Image.Image:
    under = Image.new("RGBA", drawing.size, (ground, ground, ground, 255))
    return Image.alpha_composite(under, drawing).convert("RGB")


def _root_mean_square(channel: Image.Image) -> float:
    counts = channel.histogram()
    return sqrt(sum(count * value**2 for value, count in enumerate(counts)) / sum(counts))
