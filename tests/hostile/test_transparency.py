"""Every depth and kind of transparency that a file can have looks like its twin of 8 bit."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image
from png_bytes import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, chunk, png

from steerclear.library import read_image

SIDE = 24


def drawing(depth: int, channels: int, seed: int = 0) -> np.ndarray:
    """Samples (H, W, C) of dark blotches, and a corner in the one value that will not show."""
    top = 2**depth - 1
    samples = np.random.default_rng(seed).integers(0, max(1, top // 2) + 1, (SIDE, SIDE, channels))
    samples[:8, :8] = top if depth > 1 else 1
    return samples


def on_white(colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) in [0, 1] on white, 8 bit; opacity (H, W) in [0, 1]."""
    return (255 * (colours * opacity[..., None] + 1 - opacity[..., None])).round()


def read(raw: bytes) -> np.ndarray:
    return np.asarray(read_image(raw)).astype(int)


def grey(samples: np.ndarray, depth: int) -> np.ndarray:
    return np.repeat(samples[..., :1] / (2**depth - 1), 3, axis=2)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("keyed", [False, True], ids=["opaque", "keyed"])
def test_grey(depth, keyed):
    samples = drawing(depth, 1)
    key = int(samples[0, 0, 0])
    chunks = [chunk(b"tRNS", struct.pack(">H", key))] if keyed else []
    opacity = np.where(keyed & (samples[..., 0] == key), 0.0, 1.0)
    seen = read(png(samples, depth, GREY, *chunks))
    assert abs(seen - on_white(grey(samples, depth), opacity)).max() <= 1


@pytest.mark.parametrize("depth", [2, 4, 8, 16])
def test_a_dark_grey_that_does_not_show_lies_on_white(depth):
    samples = drawing(depth, 1) // 2 + 1
    samples[:8, :8] = 0
    seen = read(png(samples, depth, GREY, chunk(b"tRNS", struct.pack(">H", 0))))
    assert (seen[:8, :8] == 255).all()
    assert (seen[8:, 8:] < 200).all()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("keyed", [False, True], ids=["opaque", "keyed"])
def test_colours(depth, keyed):
    samples = drawing(depth, 3)
    samples[:8, :8] = np.array([200, 10, 90]) * (257 if depth == 16 else 1)
    key = [int(value) for value in samples[0, 0]]
    chunks = [chunk(b"tRNS", struct.pack(">HHH", *key))] if keyed else []
    opacity = np.where(keyed & (samples == key).all(axis=2), 0.0, 1.0)
    seen = read(png(samples, depth, RGB, *chunks))
    assert abs(seen - on_white(samples / (2**depth - 1), opacity)).max() <= 1


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour", [GREY_ALPHA, RGBA])
def test_a_channel_of_transparency(depth, colour):
    channels = 2 if colour == GREY_ALPHA else 4
    samples = drawing(depth, channels)
    samples[..., -1] = np.linspace(0, 2**depth - 1, SIDE).astype(int)
    top = 2**depth - 1
    colours = grey(samples, depth) if colour == GREY_ALPHA else samples[..., :3] / top
    seen = read(png(samples, depth, colour))
    assert abs(seen - on_white(colours, samples[..., -1] / top)).max() <= 3


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "opacities", [b"", b"\0", b"\0\xff", b"\x80\x80"], ids=["none", "first", "two", "half"]
)
def test_a_palette(depth, opacities):
    count = min(2**depth, 8)
    indices = np.random.default_rng(0).integers(0, count, (SIDE, SIDE))
    palette = np.random.default_rng(1).integers(0, 120, (count, 3)).astype(np.uint8)
    chunks = [chunk(b"PLTE", palette.tobytes()), *([chunk(b"tRNS", opacities)] if opacities else [])]
    opacity = np.array([*opacities, *[255] * count])[:count] / 255
    seen = read(png(indices, depth, PALETTE, *chunks))
    assert abs(seen - on_white(palette[indices] / 255, opacity[indices])).max() <= 1


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("GIF", "RGBA"), ("WEBP", "RGBA"), ("WEBP", "LA"), ("TIFF", "RGBA"), ("TIFF", "LA"), ("PNG", "PA")],
)
def test_other_formats(kind, mode):
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)
    pixels[..., 3], pixels[:8, :8] = 255, 0
    stream = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(pixels).convert(mode if mode != "PA" else "RGBA").save(stream, kind, **lossless)
    seen = read(stream.getvalue())
    assert (seen[:8, :8] == 255).all()
    assert (seen[8:, 8:] == 0).all()


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_grey_of_sixteen_bit_in_a_tiff(mode):
    samples = drawing(16, 1)[..., 0].astype("<u2" if mode == "I;16" else ">u2")
    stream = io.BytesIO()
    Image.fromarray(samples).save(stream, "TIFF")
    assert (
        abs(read(stream.getvalue()) - on_white(grey(samples[..., None], 16), np.ones(samples.shape))).max()
        <= 1
    )


def test_a_transparent_grey_is_keyed_by_all_its_sixteen_bits():
    samples = np.full((SIDE, SIDE), 0x1234)
    samples[:8, :8] = 0x1235
    seen = read(png(samples, 16, GREY, chunk(b"tRNS", struct.pack(">H", 0x1235))))
    assert (seen[:8, :8] == 255).all()
    assert (seen[8:, 8:] == 0x12).all()
