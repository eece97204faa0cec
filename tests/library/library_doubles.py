"""An encoder without weights and a picture factory, importable by the tests' subprocesses too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class TinyEncoder:
    """Average colours of a 4 × 4 grid, centred: deterministic, differentiable, no weights."""

    name: str = "tiny"
    size: int = 32
    fingerprint: str = "tiny-1"
    differentiable: bool = True
    dim: int = 48

    def __call__(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, self.size, self.size)
        return F.normalize(F.adaptive_avg_pool2d(images, 4).flatten(1)[:, : self.dim] - 0.5 + 1e-4, dim=1)


def picture(seed: int, size: int = 40) -> Image.Image:
    """A smooth random picture: the same for the same seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


def write_pictures(folder: Path, seeds: Iterable[int]) -> list[Path]:
    """Write `picture-SEED.png` for each seed."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in seeds:
        paths.append(folder / f"picture-{seed}.png")
        picture(seed).save(paths[-1])
    return paths


def embed(encoder: TinyEncoder, image: Image.Image) -> Tensor:
    from steerclear.library.images import square_tensor

    with torch.no_grad():
        return encoder(square_tensor(image, encoder.size)[None])
