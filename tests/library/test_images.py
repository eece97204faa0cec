"""Every picture that people have on disk is read right or refused by name."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from library_doubles import picture
from PIL import Image

from steerclear.errors import ImageError
from steerclear.library import read_image
from steerclear.library.images import hamming, phash, square_tensor, thumbnail
from steerclear.pixels import to_tensor


def _bytes(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


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


def test_of_an_animation_the_first_frame_is_read_and_the_number_known():
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "green", "blue")]
    read = read_image(_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (_mean(read), read.info["frames"]) == ([255, 0, 0], 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>404</html>", "no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
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


def test_a_perceptual_hash_stays_near_under_recompression_and_resizing_only():
    hashes = [phash(picture(seed)) for seed in range(8)]
    for seed, own in enumerate(hashes):
        small_jpeg = read_image(_bytes(picture(seed).resize((30, 34)), "JPEG", quality=60))
        assert hamming(own, phash(small_jpeg)) <= 10
        assert min(hamming(own, other) for s, other in enumerate(hashes) if s != seed) > 16
