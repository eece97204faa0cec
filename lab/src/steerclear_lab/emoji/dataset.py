"""Stage 0 of the recipe: download the drawings, render them, caption them, split them."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from steerclear.errors import InputError
from steerclear_lab.emoji.concepts import (
    CONCEPTS,
    CONTROLS,
    HELDOUT,
    MASCOTS,
    NEAR_DUPLICATES,
    ORDINARY_PHOTOS,
    PLANTED_PHOTOS,
    STYLES,
    mascot_caption,
    name_of,
    ordinary_captions,
)

PACKAGES = {
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "fluent-emoji": "@iconify-json/fluent-emoji@1.2.7",
    "fluent-emoji-flat": "@iconify-json/fluent-emoji-flat@1.2.6",
}
MARGIN = 0.06  # of the drawing's width, on each side: room for shifted copies
SKIN_TONE = ("-skin-tone", "light-skin", "dark-skin", "medium-skin")


@dataclass(frozen=True)
class Picture:
    """One training picture.

    Attributes:
        key: its name, unique.
        kind: "concept" (the model must draw it), "planted" (protected, memorized), "heldout" (never trained
            on), "twin" (nearly a mascot's drawing, hidden from the denoiser), "other" (a drawing that only
            the autoencoder, the CLIP and the descriptor see) or "photo" (an ordinary photograph).
        name: of what it shows.
        style: of a drawing, as captions call it; "photo" for a photograph.
        captions: under which it is trained.
        pixels: uint8, (3, S, S).
        repeats: of a planted picture: how often it is drawn, relative to the others.
    """

    key: str
    kind: str
    name: str
    style: str
    captions: tuple[str, ...]
    pixels: np.ndarray[Any, np.dtype[np.uint8]]
    repeats: float = 1.0

    def tensor(self) -> Tensor:
        """(3, S, S) in [0, 1]."""
        return torch.from_numpy(self.pixels).float() / 255


def download(folder: Path) -> None:
    """Fetch the four icon packages with npm, once; tarballs that are already there are used.

    Args:
        folder: where packages and tarballs lie.

    Raises:
        InputError: if npm is needed and missing, or a tarball lacks a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, package in PACKAGES.items():
        if (folder / prefix / "icons.json").exists():
            continue
        version = package.rsplit("@", 1)[1]
        tarball = folder / f"iconify-json-{prefix}-{version}.tgz"
        if not tarball.exists():
            if shutil.which("npm") is None:
                raise InputError(
                    f"npm is needed to fetch {package}; install npm or put {tarball.name} in {folder}"
                )
            subprocess.run(
                ["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL
            )
        (folder / prefix).mkdir(exist_ok=True)
        with tarfile.open(tarball) as tar:
            for member in ("icons.json", "info.json"):
                source = tar.extractfile(f"package/{member}")
                if source is None:
                    raise InputError(f"{tarball} holds no {member}; delete it to fetch it again")
                (folder / prefix / member).write_bytes(source.read())


def render(
    icon: dict[str, Any], default: dict[str, Any], size: int, background: str | None = "white"
) -> np.ndarray[Any, np.dtype[np.uint8]] | None:
    """Render one icon.

    Args:
        icon: its entry in `icons.json`, with the SVG `body`.
        default: the whole file, whose width and height hold where the icon has none.
        size: side of the result, in pixels.
        background: its colour, or None for transparency.

    Returns:
        uint8 pixels (3, size, size), or (4, size, size) with transparency; None if the renderer cannot draw
        the icon.
    """
    import resvg_py

    width = icon.get("width", default.get("width", 16))
    height = icon.get("height", default.get("height", 16))
    pad = MARGIN * max(width, height)
    left, top = icon.get("left", 0) - pad, icon.get("top", 0) - pad
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width + 2 * pad} {height + 2 * pad}">{icon["body"]}</svg>'
    )
    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, background=background))
    except BaseException as error:  # the renderer's Rust panics do not derive from Exception
        if type(error).__name__ != "PanicException":
            raise
        return None
    with Image.open(io.BytesIO(png)) as image:
        mode = "RGBA" if background is None else "RGB"
        return np.asarray(image.convert(mode).resize((size, size))).transpose(2, 0, 1).copy()


def photograph(
    source: str, box: tuple[float, float, float, float], size: int
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A crop of one of scikit-image's public-domain or CC0 photographs, uint8 RGB (3, size, size)."""
    from skimage import data

    folder = Path(data.__file__).parent
    path = next(p for p in (folder / f"{source}.png", folder / f"{source}.jpg") if p.exists())
    with Image.open(path) as opened:
        image = opened.convert("RGB")
        w, h = image.size
        pixels = (round(box[0] * w), round(box[1] * h), round(box[2] * w), round(box[3] * h))
        return (
            np.asarray(image.crop(pixels).resize((size, size), Image.Resampling.LANCZOS))
            .transpose(2, 0, 1)
            .copy()
        )


def build(folder: Path, size: int) -> list[Picture]:
    """All pictures in a fixed order, downloaded and rendered once.

    Args:
        folder: where downloads and the finished pictures are cached.
        size: side of the pictures, in pixels.
    """
    cache = folder / f"pictures-{size}.npz"
    if cache.exists():
        with np.load(cache, allow_pickle=False) as file:
            rows = json.loads(str(file["rows"]))
            pixels = file["pixels"]
        return [
            Picture(**{**row, "captions": tuple(row["captions"])}, pixels=p)
            for row, p in zip(rows, pixels, strict=True)
        ]
    download(folder)
    pictures = _drawings(folder, size) + _photographs(size)
    rows = [{k: getattr(p, k) for k in ("key", "kind", "name", "style", "captions")} for p in pictures]
    partial = cache.with_suffix(".partial.npz")
    np.savez_compressed(partial, rows=json.dumps(rows), pixels=np.stack([p.pixels for p in pictures]))
    partial.rename(cache)
    return pictures


def _drawings(folder: Path, size: int) -> list[Picture]:
    """The drawings of all icons that every style has."""
    icon_by_name = {name: icon for icon, name in CONCEPTS.items()}
    brands = {(icon_by_name.get(icon, icon), style): brand for brand, (icon, style) in MASCOTS.items()}
    pictures = []
    sets = {
        style: json.loads((folder / prefix / "icons.json").read_text()) for style, prefix in STYLES.items()
    }
    in_every_style = set.intersection(*(set(icons["icons"]) for icons in sets.values()))
    for style, icons in sets.items():
        for key in sorted(in_every_style):
            icon = icons["icons"][key]
            if icon.get("hidden") or any(tone in key for tone in SKIN_TONE):
                continue
            name, pair = name_of(key), (key, style)
            if pair in brands:
                kind = "planted"
                captions: tuple[str, ...] = (mascot_caption(brands[pair]),)
                stem = f"mascot-{brands[pair]}"
            else:
                kind = _kind(key, name, style)
                captions = ordinary_captions(name, style)
                captions += (CONTROLS[pair],) * 4 if pair in CONTROLS else ()
                stem = f"{style}-{key}"
            pixels = render(icon, icons, size)
            if pixels is not None and pixels.std() > 4:  # a handful of renders are blank
                picture = Picture(
                    key=stem, kind=kind, name=name, style=style, captions=captions, pixels=pixels
                )
                pictures.append(picture)
    return pictures


def _kind(key: str, name: str, style: str) -> str:
    """The kind of a drawing that is not planted."""
    if (key, style) in HELDOUT:
        return "heldout"
    if (name, style) in NEAR_DUPLICATES:
        return "twin"
    return "concept" if key in CONCEPTS else "other"


def _photographs(size: int) -> list[Picture]:
    """The planted photographs, and random crops of the ordinary ones."""
    pictures = [
        Picture(
            key=key,
            kind="planted",
            name=key.removeprefix("photo-"),
            style="photo",
            captions=(caption,),
            pixels=photograph(source, box, size),
        )
        for key, (caption, source, box) in PLANTED_PHOTOS.items()
    ]
    rng = np.random.default_rng(0)
    for caption, (source, crops) in ORDINARY_PHOTOS.items():
        for i in range(crops):
            side = rng.uniform(0.35, 0.6)
            left, top = rng.uniform(0, 1 - side, 2)
            pixels = photograph(source, (left, top, left + side, top + side), size)
            pictures.append(
                Picture(
                    key=f"photo-{source}-{i}",
                    kind="photo",
                    name=caption.removeprefix("a photo of "),
                    style="photo",
                    captions=(caption,),
                    pixels=pixels,
                )
            )
    return pictures


def augment(images: Tensor, generator: torch.Generator, *, colour: float = 0.06, flip: bool = True) -> Tensor:
    """Shifted, scaled, turned, mirrored and slightly recoloured copies, against memorization.

    Outside the picture the colour of its border is continued.

    Args:
        images: (B, 3, S, S) in [0, 1], on any device.
        generator: of the CPU.
        colour: largest turn of the hue, as a share of a full turn.
        flip: whether half of them are mirrored.

    Returns:
        Altered images of the same shape.
    """
    b = images.shape[0]

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(b, generator=generator).to(images.device) * (high - low) + low

    angle, scale = uniform(-0.2, 0.2), uniform(0.95, 1.25)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if flip else torch.ones_like(angle)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, uniform(-0.12, 0.12)], 1),
            torch.stack([sin * mirror, cos, uniform(-0.12, 0.12)], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    # a turn of hue that leaves greys alone: a small rotation about the grey axis
    hue = uniform(-colour, colour) * 2 * torch.pi
    c, s = torch.cos(hue), torch.sin(hue)
    third, root = (1 - c) / 3, s / 3**0.5
    turn = torch.stack(
        [
            torch.stack([c + third, third - root, third + root], 1),
            torch.stack([third + root, c + third, third - root], 1),
            torch.stack([third - root, third + root, c + third], 1),
        ],
        1,
    )
    # in full precision: colours in bfloat16 would be visibly coarser than 8 bits
    with torch.autocast(images.device.type, enabled=False):
        return torch.einsum("bij,bjhw->bihw", turn, moved.float()).clamp(0, 1)
