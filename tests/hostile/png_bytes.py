"""PNG files written sample by sample: what Pillow cannot write, and what no encoder would."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # PNG's colour types


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width: int, height: int, depth: int = 8, colour: int = RGB) -> bytes:
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png(samples: np.ndarray, depth: int, colour: int, *chunks: bytes) -> bytes:
    """A PNG of samples (H, W) or (H, W, C), whole numbers below 2**depth; chunks come before the pixels."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1).astype(np.uint16)
    bits = np.unpackbits(rows.astype(">u2").view(np.uint8).reshape(height, -1, 2), axis=2)[:, :, 16 - depth :]
    packed = np.packbits(bits.reshape(height, -1), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in packed)
    pixels = chunk(b"IDAT", zlib.compress(lines))
    return (
        header(width, height=height, depth=depth, colour=colour)
        + b"".join(chunks)
        + pixels
        + chunk(b"IEND", b"")
    )
