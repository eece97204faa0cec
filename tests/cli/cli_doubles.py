"""A tiny model and library that stand in for the embedded ones, in this process or in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from steerclear.testing import FakeEncoder, tiny_pipeline

ENCODER = FakeEncoder(name="descriptor")
COPIED, ORDINARY = (
    "the acme fox mascot",
    "a bear in the snow",
)  # prompts; seed 0 of the first gives a protected picture
STEPS = 3
TOGETHER = ("--steps", str(STEPS), "--guidance", "4")
# only a picture that is the same, pixel for pixel, is flagged: everything else a random model makes is different
THRESHOLDS = {"nearest": 0.999999, "pixel": 0.9999, "tiled": 0.9999}


def prepare(folder: Path) -> None:
    """Write `model`, `art/copied.png` and the calibrated `library` that protects it."""
    from steerclear.library import Library, add
    from steerclear.pipelines import load_pipeline

    tiny_pipeline().save_pretrained(folder / "model")
    (folder / "model" / "recipe.json").write_text('{"guidance": 4.0}')
    picture = plain(load_pipeline(folder / "model"), COPIED, 0)
    (folder / "art").mkdir()
    picture.save(folder / "art" / "copied.png")
    library = Library.create(folder / "library", [ENCODER])
    add(library, [folder / "art" / "copied.png"], [ENCODER], owner="Acme")
    library.write_note("calibration", {"thresholds": THRESHOLDS})


def plain(pipe: Any, prompt: str, seed: int) -> Any:
    """What the plain pipeline gives with the options TOGETHER."""
    generator = torch.Generator().manual_seed(seed)
    return pipe(prompt, num_inference_steps=STEPS, guidance_scale=4.0, generator=generator).images[0]


def stand_in(folder: Path, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let the model and library in `folder` be the embedded ones."""
    from steerclear import embedded
    from steerclear.encoders.embedded import CopyDescriptor

    put(embedded, "MODEL_FOLDER", folder / "model")
    put(embedded, "LIBRARY_FOLDER", folder / "library")
    put(CopyDescriptor, "default", classmethod(lambda cls, device="cpu": ENCODER))
