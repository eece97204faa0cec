"""How a copy may be disguised: kinds of alterations, each at several strengths, in order."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Alteration = Callable[[Image.Image], Image.Image]
TEXTS = ("SPECIAL OFFER", "Monday 14th")


def alterations(others: list[Image.Image], seed: int = 0) -> dict[str, dict[str, Alteration]]:
    """Every kind by name, and in it every strength by name.

    Args:
        others: at least three ordinary pictures, to stand beside the copy in a collage.
        seed: picks them, and makes the noise.

    Returns:
        kind → strength → what alters an RGB picture.
    """
    draw = np.random.default_rng(seed)
    beside = [others[int(i)] for i in draw.permutation(len(others))[:3]]
    return {
        "mirror": {"mirror": ImageOps.mirror},
        "turn": {f"{d}°": _turned(d) for d in (90, 180, 270)},
        "crop, centre": {f"{round(100 * s)} %": _cropped(s, 0.5, 0.5) for s in (0.8, 0.65, 0.5)},
        "crop, corner": {
            "80 %": _cropped(0.8, 0.0, 0.0),
            "80 % lower right": _cropped(0.8, 1.0, 1.0),
            "65 %": _cropped(0.65, 1.0, 0.0),
            "half": _cropped(0.5, 0.0, 0.0),
            "half lower right": _cropped(0.5, 1.0, 1.0),
        },
        "shift": {
            f"{round(100 * s)} %": _shifted(s, up)
            for s, up in ((0.05, 0.0), (0.1, 0.05), (0.2, 0.1), (0.3, 0.0))
        },
        "canvas": {
            "0.7": _on_canvas(0.7, (255, 255, 255), 0.5),
            "0.7 in a corner": _on_canvas(0.7, (200, 210, 220), 0.0),
            "0.5": _on_canvas(0.5, (255, 255, 255), 0.5),
            "0.5 aside": _on_canvas(0.5, (90, 120, 90), 0.8),
        },
        "border": {f"{round(100 * s)} %": _bordered(s, c) for s, c in ((0.06, 0), (0.12, 90), (0.2, 255))},
        "hue": {f"{d}°": _hue(d) for d in (60, 120, 180)},
        "grey": {"grey": lambda p: p.convert("L").convert("RGB")},
        "gamma": {f"{g}": _gamma(g) for g in (0.4, 0.7, 1.6, 3.0)},
        "contrast": {"0.4": _contrast(0.4), "0.6": _contrast(0.6)},
        "text": {"one line": _lettered(1), "two lines": _lettered(2)},
        "black ground": {"black ground": black_ground},
        "collage of two": {
            "side by side": _beside(beside),
            "shrunk to the picture's size": _beside(beside, True),
        },
        "collage of four": {"copy first": _four(beside, 0), "copy last": _four(beside, 3)},
        "mirrored and cropped": {
            "80 %": _then(ImageOps.mirror, _cropped(0.8, 0.5, 0.5)),
            "65 % corner": _then(ImageOps.mirror, _cropped(0.65, 1.0, 0.0)),
        },
        "mirrored and turned": {f"{d}°": _then(ImageOps.mirror, _turned(d)) for d in (90, 180)},
        "tilted": {f"{d}°": _tilted(d) for d in (5, 12, -20)},
        "negative": {"negative": ImageOps.invert},
        "jpeg": {f"quality {q}": _jpeg(q) for q in (40, 15)},
        "blur": {f"{s:.1%} of the side": _blurred(s) for s in (0.012, 0.025)},
        "noise": {f"{s}": _noisy(s, seed) for s in (0.05, 0.1)},
        "repeated": {"two by two, half a step on": _tiled},
    }


def _then(first: Alteration, second: Alteration) -> Alteration:
    return lambda p: second(first(p))


def _turned(degrees: int) -> Alteration:
    ways = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    return lambda p: p.transpose(ways[degrees])


def _tilted(degrees: float) -> Alteration:
    return lambda p: p.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=ground(p))


def _cropped(share: float, across: float, down: float) -> Alteration:
    def crop(p: Image.Image) -> Image.Image:
        w, h = p.size
        left, top = (1 - share) * w * across, (1 - share) * h * down
        box = (left, top, left + share * w, top + share * h)
        return p.resize((w, h), Image.Resampling.BICUBIC, box=box)

    return crop


def _shifted(across: float, up: float) -> Alteration:
    def shift(p: Image.Image) -> Image.Image:
        out = Image.new("RGB", p.size, ground(p))
        out.paste(p, (round(across * p.width), -round(up * p.height)))
        return out

    return shift


def _on_canvas(scale: float, colour: tuple[int, int, int], at: float) -> Alteration:
    def place(p: Image.Image) -> Image.Image:
        small = p.resize((round(scale * p.width), round(scale * p.height)), Image.Resampling.LANCZOS)
        out = Image.new("RGB", p.size, colour)
        out.paste(small, (round((p.width - small.width) * at), round((p.height - small.height) * at)))
        return out

    return place


def _bordered(share: float, colour: int) -> Alteration:
    def frame(p: Image.Image) -> Image.Image:
        w, h = p.size
        out = Image.new("RGB", (round(w * (1 + 2 * share)), round(h * (1 + 2 * share))), (colour,) * 3)
        out.paste(p, (round(w * share), round(h * share)))
        return out.resize((w, h), Image.Resampling.LANCZOS)

    return frame


def _hue(degrees: int) -> Alteration:
    def turn(p: Image.Image) -> Image.Image:
        hsv = np.asarray(p.convert("HSV")).copy()
        hsv[..., 0] = (hsv[..., 0].astype(int) + round(degrees / 360 * 256)) % 256
        return Image.fromarray(hsv, "HSV").convert("RGB")

    return turn


def _gamma(gamma: float) -> Alteration:
    return lambda p: p.point([round(255 * (v / 255) ** gamma) for v in range(256)] * 3)


def _contrast(share: float) -> Alteration:
    return lambda p: p.point([round(127.5 + share * (v - 127.5)) for v in range(256)] * 3)


def _lettered(lines: int) -> Alteration:
    def write(p: Image.Image) -> Image.Image:
        out = p.copy()
        pen = ImageDraw.Draw(out)
        for i in range(lines):
            size = out.width / 7.5
            font = ImageFont.load_default(max(8, round(size)))
            width = pen.textlength(TEXTS[i], font=font)
            at = ((out.width - width) / 2, out.height * (0.42 if lines == 1 else 0.25 + 0.4 * i))
            pen.text(
                at,
                TEXTS[i],
                font=font,
                fill="white",
                stroke_width=max(1, round(size / 10)),
                stroke_fill="black",
            )
        return out

    return write


def ground(p: Image.Image) -> tuple[int, int, int]:
    """The commonest colour along the border."""
    pixels = np.asarray(p)
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colours, counts = np.unique(rim // 8, axis=0, return_counts=True)
    near = (rim // 8 == colours[counts.argmax()]).all(1)
    red, green, blue = np.median(rim[near], axis=0).round().astype(int).tolist()
    return red, green, blue


def black_ground(p: Image.Image) -> Image.Image:
    """Everything that is reached from the border through pixels of the ground's colour becomes black."""
    pixels = np.asarray(p).astype(int)
    like = np.abs(pixels - np.array(ground(p))).max(-1) < 32
    reached = np.zeros_like(like)
    reached[[0, -1]], reached[:, [0, -1]] = like[[0, -1]], like[:, [0, -1]]
    while True:
        wider = reached.copy()
        wider[1:] |= reached[:-1]
        wider[:-1] |= reached[1:]
        wider[:, 1:] |= reached[:, :-1]
        wider[:, :-1] |= reached[:, 1:]
        wider &= like
        if (wider == reached).all():
            break
        reached = wider
    out = pixels.astype(np.uint8)
    out[reached] = 0
    return Image.fromarray(out)


def _beside(others: list[Image.Image], shrink: bool = False) -> Alteration:
    def join(p: Image.Image) -> Image.Image:
        out = Image.new("RGB", (2 * p.width, p.height))
        out.paste(others[0].resize(p.size, Image.Resampling.BICUBIC), (0, 0))
        out.paste(p, (p.width, 0))
        return out.resize((p.width, p.height // 2), Image.Resampling.LANCZOS) if shrink else out

    return join


def _four(others: list[Image.Image], at: int) -> Alteration:
    def join(p: Image.Image) -> Image.Image:
        w, h = p.size
        out = Image.new("RGB", (2 * w, 2 * h))
        rest = iter(others)
        for i in range(4):
            piece = p if i == at else next(rest).resize(p.size, Image.Resampling.BICUBIC)
            out.paste(piece, (i % 2 * w, i // 2 * h))
        return out.resize((w, h), Image.Resampling.LANCZOS)

    return join


def _tiled(p: Image.Image) -> Image.Image:
    """Two by two copies at half size, the pattern shifted by half a copy, as a texture would be."""
    w, h = p.width // 2, p.height // 2
    small = p.resize((w, h), Image.Resampling.LANCZOS)
    out = Image.new("RGB", (2 * w, 2 * h))
    for y in range(-1, 2):
        for x in range(-1, 2):
            out.paste(small, (x * w + w // 2, y * h + h // 2))
    return out


def _jpeg(quality: int) -> Alteration:
    def press(p: Image.Image) -> Image.Image:
        file = io.BytesIO()
        p.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return press


def _blurred(share: float) -> Alteration:
    return lambda p: p.filter(ImageFilter.GaussianBlur(share * min(p.size)))


def _noisy(strength: float, seed: int) -> Alteration:
    def spoil(p: Image.Image) -> Image.Image:
        grain = np.random.default_rng(seed).normal(0, 255 * strength, (p.height, p.width, 3))
        return Image.fromarray((np.asarray(p) + grain).clip(0, 255).round().astype(np.uint8))

    return spoil
