"""Small ICC profiles, and colours computed without the library that reads them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np

# red, green and blue as XYZ under D50, and the exponent of each space's curve (None is sRGB's own curve)
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)), None
DISPLAY_P3 = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)), None
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 563 / 256

Space = tuple[tuple[tuple[float, float, float], ...], float | None]


def rgb_profile(space: Space) -> bytes:
    """The profile of an RGB space."""
    primaries, exponent = space
    curve = _curve(exponent)
    tags = {f"{name}XYZ": _xyz(xyz) for name, xyz in zip("rgb", primaries, strict=True)}
    return _profile(
        "mntr", colours="RGB ", connection="XYZ ", tags={**tags, **{f"{name}TRC": curve for name in "rgb"}}
    )


def grey_profile(exponent: float) -> bytes:
    """The profile of grey pixels whose light is their value to a power."""
    return _profile("mntr", colours="GRAY", connection="XYZ ", tags={"kTRC": _curve(exponent)})


def ink_profile(lightness: Callable[[Sequence[int]], float]) -> bytes:
    """The profile of a CMYK printer of greys: CIELAB's lightness, 0 to 100, by which of the inks are full."""
    ramp, identity = bytes(range(256)), np.eye(3).flatten()
    table = bytes(
        value for inks in np.ndindex(2, 2, 2, 2) for value in (round(lightness(inks) * 2.55), 128, 128)
    )
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + b"".join(map(_fixed, identity))
    return _profile(
        "prtr", colours="CMYK", connection="Lab ", tags={"A2B0": lut + ramp * 4 + table + ramp * 3}
    )


def from_srgb(pixels: np.ndarray, space: Space) -> np.ndarray:
    """The pixels (H, W, 3) uint8 of an RGB space that show the same colours as these in sRGB.

    Raises:
        AssertionError: for a colour that the space does not have.
    """
    light = _light(pixels / 255, SRGB[1]) @ np.array(SRGB[0]) @ np.linalg.inv(np.array(space[0]))
    assert light.min() > -0.002
    assert light.max() < 1.002
    return (_value(light.clip(0, 1), space[1]) * 255).round().astype(np.uint8)


def _light(values: np.ndarray, exponent: float | None) -> np.ndarray:
    if exponent is not None:
        return values**exponent
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _value(light: np.ndarray, exponent: float | None) -> np.ndarray:
    if exponent is not None:
        return light ** (1 / exponent)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _fixed(number: float) -> bytes:
    return struct.pack(">i", round(number * 65536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))


def _curve(exponent: float | None) -> bytes:
    if exponent is not None:
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(exponent * 256)) + bytes(2)
    parts = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, parts))


def _profile(kind: str, colours: str, connection: str, tags: dict[str, bytes]) -> bytes:
    tags = {"wtpt": _xyz((0.9642, 1.0, 0.8249)), **tags}
    tags = {name: body + bytes(-len(body) % 4) for name, body in tags.items()}
    offset = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += name.encode() + struct.pack(">II", offset + len(bodies), len(body))
        bodies += body
    header = struct.pack(
        ">I4sI4s4s4s12s4s28s",
        offset + len(bodies),
        b"",
        0x04200000,
        kind.encode(),
        colours.encode(),
        connection.encode(),
        struct.pack(">6H", 2020, 1, 1, 0, 0, 0),
        b"acsp",
        b"",
    )
    illuminant = b"".join(map(_fixed, (0.9642, 1.0, 0.8249)))
    return (header + illuminant).ljust(128, b"\0") + table + bodies
