"""The pictures of the copy detector's benchmark: what is protected, and what is no copy of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from steerclear.embedded import PROTECTED_FOLDER, read_prompts
from steerclear.errors import InputError
from steerclear_lab.assets import ASSETS

STAMPS = Path("/usr/share/tuxpaint/stamps")
GET_STAMPS = "apt-get install --no-install-recommends tuxpaint-stamps-default"
CLIPART = Path("/usr/share/openclipart/png")
GET_CLIPART = "apt-get install --no-install-recommends openclipart-png"
STAMPS_PROTECTED = 40
LARGEST = 192  # longer side in pixels to which stamps are shrunk
STEPS, GUIDANCE, BATCH, FIRST_SEED = 12, 4.0, 16, 5000  # of ordinary generations

# Beginnings of the names of pictures that show a protected one's own drawing, looked at among those that were
# flagged: the dreydls are one drawing with other letters, the carriages and engines share their wheels.
TRUE_COPIES: dict[str, tuple[str, ...]] = {
    "embedded": (),
    "stamps": ("seasonal/hanukkah/dreydl", "vehicles/locomotive/cartoon/"),
}


def is_true_copy(name: str, of: str) -> bool:
    """Whether another picture is a copy of one in the set `of`, and is not counted as another picture."""
    return name.startswith(TRUE_COPIES[of])


def embedded() -> dict[str, Image.Image]:
    """The protected pictures of the embedded library, 64 × 64."""
    return {file.stem: Image.open(file).convert("RGB") for file in sorted(PROTECTED_FOLDER.glob("*.png"))}


def ordinary_drawings() -> dict[str, Image.Image]:
    """Drawings of other sets that the embedded model was trained on, 64 × 64."""
    about = json.loads((ASSETS / "ordinary.json").read_text())
    sheet, size = Image.open(ASSETS / "ordinary.png").convert("RGB"), about["size"]
    corners = [(i % about["columns"] * size, i // about["columns"] * size) for i in range(about["count"])]
    return {
        key: sheet.crop((x, y, x + size, y + size))
        for key, (x, y) in zip(about["keys"], corners, strict=True)
    }


def stamps(folder: Path = STAMPS) -> dict[str, Image.Image]:
    """Tux Paint's stamps by path, on white, at most LARGEST pixels wide or high; without blank ones.

    Raises InputError with the way to get them where they are missing. GPL: to measure with, never to ship.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is missing; get the stamps by: {GET_STAMPS}")
    pictures = {}
    for file in sorted(folder.rglob("*.png")):
        try:
            picture = flattened(file)
        except (OSError, ValueError):
            continue
        if np.asarray(picture, dtype=float).std() >= 4:
            pictures[str(file.relative_to(folder).with_suffix(""))] = picture
    return pictures


def clipart(count: int, first: int = 0, folder: Path = CLIPART) -> list[Image.Image]:
    """Every second of openclipart's drawings (public domain), on white, at most LARGEST pixels wide or high.

    Args:
        count: how many at most.
        first: 0 for the drawings of even number, 1 for the others.
        folder: where they lie.

    Raises:
        InputError: where they are missing, with the way to get them.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is missing; get the drawings by: {GET_CLIPART}")
    pictures: list[Image.Image] = []
    for file in sorted(folder.rglob("*.png"))[first::2]:
        if len(pictures) >= count:
            break
        try:
            picture = flattened(file)
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        if min(picture.size) >= 24 and np.asarray(picture, dtype=float).std() >= 4:
            pictures.append(picture)
    return pictures


def flattened(file: Path) -> Image.Image:
    """A picture on white, shrunk to LARGEST."""
    with Image.open(file) as opened:
        picture = opened.convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    ground.alpha_composite(picture)
    flat = ground.convert("RGB")
    flat.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return flat


def protected_stamps(all_stamps: dict[str, Image.Image]) -> dict[str, Image.Image]:
    """STAMPS_PROTECTED of all stamps, evenly over the subjects: no letters and signs, none long or small."""
    fit = [
        name
        for name, p in all_stamps.items()
        if not name.startswith("symbols") and min(p.size) >= 64 and max(p.size) <= 1.6 * min(p.size)
    ]
    step = len(fit) / STAMPS_PROTECTED
    return {fit[int(i * step)]: all_stamps[fit[int(i * step)]] for i in range(STAMPS_PROTECTED)}


def protected_sets(all_stamps: dict[str, Image.Image]) -> dict[str, dict[str, Image.Image]]:
    """Both protected sets by name. all_stamps: by name."""
    return {"embedded": embedded(), "stamps": protected_stamps(all_stamps)}


def generations(folder: Path, count: int) -> Iterator[tuple[str, Image.Image]]:
    """`count` ordinary generations of the embedded model by name, made in batches where `folder` does not
    hold them yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pipe = None
    prompts = [prompt for prompt, _ in read_prompts("ordinary")]
    for shard in range(-(-count // BATCH)):
        file = folder / f"gen-{shard:03d}.npy"
        numbers = range(shard * BATCH, shard * BATCH + BATCH)
        if not file.exists():
            if pipe is None:
                pipe = _pipe()
            drawn = pipe(
                [prompts[n % len(prompts)] for n in numbers],
                generator=[torch.Generator().manual_seed(FIRST_SEED + n) for n in numbers],
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
            ).images
            whole = file.with_suffix(".part.npy")
            np.save(whole, np.stack([np.asarray(p.convert("RGB")) for p in drawn]))
            os.replace(whole, file)
        for n, pixels in zip(numbers, np.load(file, allow_pickle=False), strict=True):
            if n < count:
                yield f"generation {n}: {prompts[n % len(prompts)]}", Image.fromarray(pixels)


def _pipe() -> Any:
    from steerclear.guard import Guard

    pipe = Guard.default().pipe
    pipe.set_progress_bar_config(disable=True)
    return pipe
