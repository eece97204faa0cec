"""The form in which images are handed out: pictures, arrays, tensors or latents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.pixels import to_tensor

PLACEHOLDER = (128, 128, 128)  # plain grey


def as_pictures(images: list[Image.Image | None], output_type: str, device: torch.device) -> Any:
    """Images in the form that the caller asked for; None stays None.

    Args:
        images: what is handed out.
        output_type: "pil", "np" or "pt", see `GuardOutput`.
        device: where tensors lie.
    """
    if output_type == "pil":
        return images
    pixels = [None if image is None else to_tensor([image]) for image in images]
    if output_type == "pt":
        return _stacked([None if row is None else row.to(device) for row in pixels])
    rows = _stacked([None if row is None else row.permute(0, 2, 3, 1) for row in pixels])
    if isinstance(rows, Tensor):
        return rows.numpy()
    return [None if row is None else row.numpy() for row in rows]


def as_latents(latents: Sequence[Tensor | None], blank: Tensor | None) -> Any:
    """Collect latents to hand out.

    Args:
        latents: (1, …) for each image; None where it is withheld.
        blank: (1, …) stands for a withheld image; None to leave it None.

    Returns:
        One batch (B, …); a list with a None where an image is withheld without `blank`.
    """
    return _stacked([blank if latent is None else latent.clone() for latent in latents])


def with_placeholders(images: list[Image.Image | None], size: tuple[int, int]) -> list[Image.Image | None]:
    """Replace withheld images by plain grey ones.

    Args:
        images: None where one is withheld.
        size: (width, height) of the placeholder, in pixels.
    """
    grey = Image.new("RGB", size, PLACEHOLDER)
    return [grey if image is None else image for image in images]


def _stacked(rows: Sequence[Tensor | None]) -> Any:
    """Rows (1, …) as one batch, or where one is missing as a list of them without their first dimension."""
    present = [row for row in rows if row is not None]
    if len(present) == len(rows):
        return torch.cat(present)
    return [None if row is None else row[0] for row in rows]
