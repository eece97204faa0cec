"""A picture reads as what it shows, whatever its file's colour space, and on a ground that shows it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from icc import ADOBE_RGB, DISPLAY_P3, SRGB, from_srgb, grey_profile, ink_profile, rgb_profile
from library_doubles import picture
from PIL import Image, ImageCms, ImageDraw

from steerclear.library import read_image
from steerclear.library.images import is_blank


def _bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _difference(a: Image.Image, b: Image.Image) -> float:
    """The mean over all values, of 255."""
    return float(np.abs(np.asarray(a).astype(int) - np.asarray(b)).mean())


def _drawing(fill: tuple[int, ...], outline: tuple[int, ...] | None = None, width: int = 1) -> Image.Image:
    """A star on transparency."""
    drawing = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    corners = [(32, 6), (40, 26), (58, 32), (40, 38), (32, 58), (24, 38), (6, 32), (24, 26)]
    ImageDraw.Draw(drawing).polygon(corners, fill=fill, outline=outline, width=width)
    return drawing


@pytest.mark.parametrize("space", [DISPLAY_P3, ADOBE_RGB], ids=["Display P3", "Adobe RGB"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_picture_reads_as_the_same_pixels_from_srgb_and_from_a_wider_space(space, kind):
    wide = Image.fromarray(from_srgb(np.asarray(picture(1)), space))
    lossless = {"lossless": True} if kind == "WEBP" else {}
    read = read_image(_bytes(wide, kind, icc_profile=rgb_profile(space), **lossless))
    assert _difference(wide, picture(1)) > 5
    assert _difference(read, picture(1)) < 0.5


@pytest.mark.parametrize("space", [DISPLAY_P3, ADOBE_RGB], ids=["Display P3", "Adobe RGB"])
def test_transparency_and_a_profile_go_together(space):
    square = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    colour = (200, 60, 90)
    square.paste((*from_srgb(np.array([[colour]]), space)[0, 0].tolist(), 255), (0, 0, 4, 8))
    read = read_image(_bytes(square, icc_profile=rgb_profile(space)))
    assert np.abs(np.array(read.getpixel((0, 0))) - colour).max() <= 2
    assert read.getpixel((7, 7)) == (255, 255, 255)


@pytest.mark.parametrize(
    "profile",
    [rgb_profile(SRGB), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()],
    ids=["written here", "LittleCMS's own"],
)
def test_pixels_that_are_srgb_already_stay_what_they_are(profile):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert read_image(_bytes(noise, icc_profile=profile)).tobytes() == noise.tobytes()
    assert read_image(_bytes(noise.convert("L"), icc_profile=profile)).tobytes() == (
        noise.convert("L").convert("RGB").tobytes()
    )


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_grey_pixels_follow_a_grey_profile(mode):
    if mode == "I;16":
        ramp = Image.fromarray(np.tile(np.array([0, 55, 255], dtype=np.uint16) * 257, (4, 1)))
        expected = [0, 128, 255]
    else:
        values = [0, 55, 255] if mode != "1" else [0, 255, 255]
        ramp = Image.fromarray(np.tile(np.array(values, dtype=np.uint8), (4, 1))).convert(mode)
        expected = [0, 128, 255] if mode != "1" else values
    read = np.asarray(read_image(_bytes(ramp, icc_profile=grey_profile(1.0))))[0]
    assert np.abs(read.astype(int) - np.array(expected)[:, None]).max() <= 1


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_inks_follow_their_profile(kind):
    def lightness(inks):
        cyan, magenta, yellow, black = inks
        return 0 if black or magenta or yellow else 50 if cyan else 100

    for inks, expected in (((0, 0, 0, 0), 255), ((255, 0, 0, 0), 119), ((0, 0, 0, 255), 0)):
        page = Image.new("CMYK", (8, 8), inks)
        read = read_image(_bytes(page, kind, icc_profile=ink_profile(lightness)))
        assert np.abs(np.asarray(read).astype(int) - expected).max() <= 3


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile",
        rgb_profile(DISPLAY_P3)[:200],
        rgb_profile(DISPLAY_P3)[:128] + bytes(400),
        grey_profile(1.0),
        ink_profile(lambda inks: 50),
    ],
    ids=["other bytes", "cut off", "without its tags", "for grey", "for inks"],
)
def test_a_profile_that_is_broken_or_for_other_pixels_is_ignored(profile):
    assert read_image(_bytes(picture(1), icc_profile=profile)).tobytes() == picture(1).tobytes()


@pytest.mark.parametrize("white", [255, 250])
def test_a_white_drawing_on_transparency_lies_on_black(white):
    read = read_image(_bytes(_drawing((white, white, white, 255))))
    assert (read.getpixel((0, 0)), read.getpixel((32, 30))) == ((0, 0, 0), (white,) * 3)
    assert not is_blank(read)


@pytest.mark.parametrize(
    "drawing",
    [
        _drawing((0, 0, 0, 255)),
        _drawing((200, 40, 40, 128)),
        _drawing((255, 255, 200, 255)),
        _drawing((255, 255, 255, 255), outline=(60, 60, 60, 255)),
        _drawing((255, 255, 255, 255), outline=(0, 0, 0, 100), width=3),
    ],
    ids=["black", "half transparent", "pale yellow", "white in an outline", "white in a soft outline"],
)
def test_a_drawing_that_white_shows_lies_on_white(drawing):
    read = read_image(_bytes(drawing))
    assert read.getpixel((0, 0)) == (255, 255, 255)
    assert not is_blank(read)


def test_where_nothing_is_visible_the_ground_is_white():
    hidden = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    assert read_image(_bytes(hidden)).getcolors() == [(64, (255, 255, 255))]
