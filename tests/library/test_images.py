"""Every picture that people have on disk is read right or refused by name."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from library_doubles import picture
from PIL import Image, ImageDraw

from steerclear.errors import ImageError, InputError
from steerclear.library import read_frames, read_image
from steerclear.library.images import is_blank, phash, square_tensor, thumbnail
from steerclear.pixels import to_tensor


def _bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def _animation(frames: list[Image.Image], kind: str) -> bytes:
    lossless = {"lossless": True} if kind == "WEBP" else {}
    return _bytes(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)


def _mean(image: Image.Image) -> list[int]:
    return [round(v) for v in np.asarray(image).reshape(-1, 3).mean(0)]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(kind):
    assert read_image(_bytes(picture(1), kind)).tobytes() == picture(1).tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_are_read_as_rgb(kind):
    read = read_image(_bytes(picture(1), kind))
    assert read.mode == "RGB"
    assert float((to_tensor([read]) - to_tensor([picture(1)])).abs().mean()) < 0.05


def test_cmyk_is_read_as_the_colours_it_shows():
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert _mean(read_image(_bytes(red, "TIFF"))) == [255, 0, 0]
    assert _mean(read_image(_bytes(red, "JPEG", quality=95)))[0] > 245


def test_sixteen_bit_grey_is_scaled_and_not_clipped_to_white():
    grey = Image.fromarray(np.full((8, 8), 0x4000, dtype=np.uint16))
    assert _mean(read_image(_bytes(grey))) == [64, 64, 64]


@pytest.mark.parametrize("value", [-1, 70000])
def test_thirty_two_bit_pixels_of_unknown_range_are_refused(value):
    with pytest.raises(ImageError, match="32-bit pixels"):
        read_image(_bytes(Image.fromarray(np.full((4, 4), value, dtype=np.int32)), "TIFF"), name="scan.tif")


def test_floating_point_pixels_are_refused():
    with pytest.raises(ImageError, match=r"scan\.tif.*floating point"):
        read_image(_bytes(Image.new("F", (4, 4), 0.5), "TIFF"), name="scan.tif")


def test_transparency_lies_on_white_in_palette_and_rgba():
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert _mean(read_image(_bytes(palette, transparency=0))) == [255, 255, 255]
    assert _mean(read_image(_bytes(Image.new("RGBA", (8, 8), (0, 0, 0, 0))))) == [255, 255, 255]
    assert _mean(read_image(_bytes(Image.new("LA", (8, 8), (0, 0))))) == [255, 255, 255]
    assert _mean(read_image(_bytes(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3)))) == [255] * 3


def test_exif_rotation_is_applied():
    wide = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(_bytes(wide, "JPEG", exif=exif)).size == (10, 20)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_every_frame_of_an_animation_is_read_in_order(kind):
    drawn = [picture(seed) for seed in range(4)]
    # only the difference is stored of a frame that changes in one corner
    drawn.append(drawn[-1].copy())
    drawn[-1].paste("white", (0, 0, 9, 9))
    read = list(read_frames(_animation(drawn, kind)))
    assert [frame.info for frame in read] == [{"frames": 5, "frame": number} for number in range(1, 6)]
    for frame, original in zip(read, drawn, strict=True):
        assert float((to_tensor([frame]) - to_tensor([original])).abs().mean()) < 0.05


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_a_long_animation_frames_are_read_that_lie_evenly(kind):
    shades = [Image.new("RGB", (8, 8), (i * 2, 0, 0)) for i in range(100)]
    animation = _animation(shades, kind)
    assert [frame.info["frame"] for frame in read_frames(animation, limit=4)] == [1, 34, 67, 100]
    assert [round(_mean(frame)[0] / 2) for frame in read_frames(animation, limit=4)] == [0, 33, 66, 99]
    assert [frame.info["frame"] for frame in read_frames(animation, limit=1)] == [1]
    assert len(list(read_frames(animation))) == 64
    assert len(list(read_frames(animation, limit=1000))) == 100


def test_a_single_picture_has_a_single_frame():
    (frame,) = read_frames(_bytes(picture(1)))
    assert frame.tobytes() == picture(1).tobytes()
    assert frame.info == {"frames": 1, "frame": 1}


def test_a_limit_of_no_frames_is_refused():
    with pytest.raises(InputError, match="at least 1, got 0"):
        list(read_frames(_bytes(picture(1)), limit=0))


def test_every_page_is_held_against_the_limit_on_pixels():
    pages = read_frames(_animation([picture(1, 40), picture(2, 41)], "TIFF"), max_pixels=1600, name="scan")
    assert next(pages).size == (40, 40)
    with pytest.raises(ImageError, match=r"'scan' has 41 × 41 pixels.*limit of 1,600"):
        next(pages)


def test_a_frame_that_is_broken_is_refused():
    whole = _animation([picture(1), picture(2)], "GIF")
    frames = read_frames(whole[: -len(whole) // 4], name="cut.gif")
    next(frames)
    with pytest.raises(ImageError, match=r"cut\.gif.*broken"):
        list(frames)


def test_of_an_animation_the_first_frame_is_read_that_is_not_blank():
    flat = [Image.new("RGB", (40, 40), colour) for colour in ("white", "black")]
    read = read_image(_animation([*flat, picture(1), picture(2)], "PNG"))
    assert read.tobytes() == picture(1).tobytes()
    assert read.info == {"frames": 4, "frame": 3}


def test_of_an_animation_of_blank_frames_the_first_is_read():
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "green", "blue")]
    read = read_image(_animation(frames, "GIF"))
    assert (_mean(read), read.info) == ([255, 0, 0], {"frames": 3, "frame": 1})


def test_flat_pictures_are_blank_and_faint_photographs_and_noise_are_not():
    for colour in ("white", "black", "teal"):
        assert is_blank(Image.new("RGB", (300, 200), colour))
    dotted = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(dotted).ellipse((149, 99, 151, 101), fill="black")
    assert is_blank(dotted)
    assert is_blank(Image.effect_noise((300, 200), 8).convert("RGB"))
    assert not is_blank(Image.effect_noise((64, 64), 40).convert("RGB"))
    for seed in range(5):
        faint = picture(seed, 300).point(lambda value: 115 + value // 10)
        assert not is_blank(faint)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>404</html>", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "format EPS, which is not read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format SVG, which is not read"),
        (_bytes(picture(1))[:200], "broken"),
        (_bytes(picture(1), "JPEG")[:-200], "broken"),
    ],
)
def test_a_file_that_is_no_whole_picture_is_refused_by_name(tmp_path, content, reason):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"bad\.png.*{reason}"):
        read_image(path)


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    for path in (tmp_path / "nothing.png", tmp_path):
        with pytest.raises(ImageError, match=path.name):
            read_image(path)


@pytest.mark.parametrize("side", [9_500, 12_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    with pytest.raises(ImageError, match=r"bomb\.png.*limit of 80,000,000"):
        read_image(bomb, name="bomb.png")


def test_the_limit_on_pixels_can_be_chosen():
    with pytest.raises(ImageError, match="limit of 1,000"):
        read_image(_bytes(picture(1)), max_pixels=1000)


def test_a_thumbnail_carries_no_metadata_of_its_source():
    tagged = picture(1)
    tagged.info["comment"] = "secret"
    small = Image.open(io.BytesIO(thumbnail(tagged)))
    assert (small.size, small.mode, small.info) == ((64, 64), "RGB", {})


def test_the_tensor_for_an_encoder_is_square_and_in_range():
    for shape in ((7, 90), (64, 64), (1, 1)):
        tensor = square_tensor(Image.new("RGB", shape, "white"), 64)
        assert tensor.shape == (3, 64, 64)
        assert torch.allclose(tensor, torch.ones(()), atol=1e-4)


def differing_bits(a, b):
    return (int(a, 16) ^ int(b, 16)).bit_count()


def test_a_perceptual_hash_stays_near_under_recompression_and_resizing_only():
    hashes = [phash(picture(seed)) for seed in range(8)]
    for seed, hash_ in enumerate(hashes):
        small_jpeg = read_image(_bytes(picture(seed).resize((30, 34)), "JPEG", quality=60))
        assert differing_bits(hash_, phash(small_jpeg)) <= 10
        assert min(differing_bits(hash_, other) for s, other in enumerate(hashes) if s != seed) > 16
