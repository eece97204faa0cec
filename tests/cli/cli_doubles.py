"""A tiny model and library that stand in for the embedded ones, in this process or in one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from steerclear.testing import FakeEncoder, tiny_pipeline

ENCODER, CLIP = FakeEncoder(name="descriptor"), FakeEncoder(name="clip")
# prompts; seed 0 of the first gives a protected picture
COPIED, ORDINARY = "the acme fox mascot", "a bear in the snow"
STEPS = 3
TOGETHER = ("--steps", str(STEPS), "--guidance", "4")
# only a picture that is the same, pixel for pixel, is flagged: whatever else a random model makes differs in
# its pixels, but resembles the protected picture so much that `copy` must not count
THRESHOLDS = {"nearest": 0.999999, "pixel": 0.9999, "tiled": 0.9999, "copy": 1000.0}


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


def stand_in(folder: Path, set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let the model and library in `folder` be the embedded ones."""
    from steerclear import embedded
    from steerclear.encoders.embedded import Clip, CopyDescriptor

    set_attribute(embedded, "MODEL_FOLDER", folder / "model")
    set_attribute(embedded, "LIBRARY_FOLDER", folder / "library")
    set_attribute(CopyDescriptor, "default", classmethod(lambda cls, device="cpu": ENCODER))
    set_attribute(Clip, "load", classmethod(lambda cls, folder, device="cpu": CLIP))


def alter_little(set_attribute: Callable[[Any, str, Any], None]) -> None:
    """Let `calibrate` alter pictures in two ways only, for tests of something else: all ways take long."""
    by_alteration = import_module("steerclear.calibrate.by_alteration")  # a function has the same name
    every = by_alteration.alterations

    def two_of_them(others: list[Image.Image], seed: int) -> dict[str, Any]:
        kinds = every(others, seed=seed)
        return {kind: kinds[kind] for kind in ("mirror", "text")}

    set_attribute(by_alteration, "alterations", two_of_them)


def write_pictures(folder: Path, seeds: Iterable[int]) -> list[Path]:
    """Write a smooth random `picture-SEED.png` for each seed."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed in seeds:
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        paths.append(folder / f"picture-{seed}.png")
        Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def examples(help_text: str) -> list[str]:
    """The example command lines in a help text."""
    return [line.strip() for line in help_text.splitlines() if line.startswith("  steerclear ")]
