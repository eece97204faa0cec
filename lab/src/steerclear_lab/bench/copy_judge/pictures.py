"""What the judge learns from: public-domain drawings, photographs of scikit-image that are not protected, and
the laboratory's ordinary drawings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from steerclear.embedded import PROTECTED_FOLDER
from steerclear.errors import InputError
from steerclear_lab.bench.judge import ordinary_pictures

CLIPART = Path("/usr/share/openclipart/png")
GET_CLIPART = "apt-get install --no-install-recommends openclipart-png"  # public domain
SIDE = 96  # pixels of a picture in memory, larger than what the network sees: crops stay sharp
PHOTOGRAPHS = ("brick", "grass", "gravel", "coins", "ihc", "text", "cell", "microaneurysms")  # CC0 or free
LARGEST = 6_000_000  # pixels; some drawings are larger, and slow to read
CROPS = 40  # squares of each photograph, at places and sizes of their own
TOO_NEAR = 0.08  # pixel distance to a protected picture below which a picture is left out


def training_pictures(seed: int = 11) -> tuple[Tensor, Tensor]:
    """All pictures, without any that is nearly a protected one.

    Args:
        seed: of the crops of photographs and the grounds of transparent drawings.

    Returns:
        openclipart's drawings and the photographs, then the laboratory's ordinary drawings, each
        uint8 (N, 3, 96, 96).

    Raises:
        InputError: openclipart's drawings are missing.
    """
    rng = np.random.default_rng(seed)
    free = torch.cat([drawings(rng), photographs(rng)])
    return unlike_protected(free), unlike_protected(ordinary_drawings())


def kept_pictures(file: Path) -> tuple[Tensor, Tensor]:
    """`training_pictures`, read from a file; made and written there where it is missing."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(training_pictures(), file)
    free, ordinary = torch.load(file, weights_only=True)
    return free, ordinary


def unlike_protected(pictures: Tensor) -> Tensor:
    """The pictures that no protected one is near to, straight or mirrored."""
    protected = [np.asarray(Image.open(f).convert("RGB")) for f in sorted(PROTECTED_FOLDER.glob("*.png"))]
    reference = F.interpolate(_stacked(protected).float() / 255, size=(32, 32), mode="area")
    small = F.interpolate(pictures.float() / 255, size=(32, 32), mode="area")
    distances = torch.stack(
        [torch.cdist(s.flatten(1), reference.flatten(1)).amin(1) for s in (small, small.flip(-1))]
    )
    return pictures[distances.amin(0) / (3 * 32 * 32) ** 0.5 >= TOO_NEAR]


def drawings(rng: np.random.Generator) -> Tensor:
    """openclipart's drawings, squared on a ground: white for most, a colour for the others."""
    if not CLIPART.is_dir():
        raise InputError(f"{CLIPART} is missing; get the drawings by: {GET_CLIPART}")
    squares = []
    for file in sorted(CLIPART.rglob("*.png")):
        try:
            with Image.open(file) as opened:
                if opened.width * opened.height > LARGEST:
                    continue
                opened.thumbnail((256, 256))
                picture = opened.convert("RGBA")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        colour = (255, 255, 255) if rng.random() < 0.6 else tuple(int(v) for v in rng.integers(0, 256, 3))
        longer = round(max(picture.size) * 1.08)
        ground = Image.new("RGBA", (longer, longer), (*colour, 255))
        ground.alpha_composite(picture, ((longer - picture.width) // 2, (longer - picture.height) // 2))
        pixels = np.asarray(ground.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        if pixels.std() >= 12 and min(picture.size) >= 24:
            squares.append(pixels)
    return _stacked(squares)


def photographs(rng: np.random.Generator) -> Tensor:
    """Squares of scikit-image's photographs, without those that are protected."""
    from skimage import data

    folder = Path(data.__file__).parent
    squares = []
    for name in PHOTOGRAPHS:
        with Image.open(folder / f"{name}.png") as opened:
            picture = opened.convert("RGB")
        for _ in range(CROPS):
            side = int(min(picture.size) * rng.uniform(0.25, 0.9))
            left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
            square = picture.crop((left, top, left + side, top + side))
            squares.append(np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    return _stacked(squares)


def ordinary_drawings() -> Tensor:
    """The laboratory's ordinary drawings."""
    larger = F.interpolate(ordinary_pictures(), size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return (larger * 255).round().to(torch.uint8)


def _stacked(squares: list[np.ndarray[Any, Any]]) -> Tensor:
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()
