"""Stage 5 of the recipe: write the finished folder, the model in Stable Diffusion format and float16."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from steerclear.encoders import descriptor as descriptor_files
from steerclear_lab.emoji.concepts import (
    CONTROLS,
    MASCOTS,
    ORDINARY_TEMPLATES,
    PARAPHRASES,
    PLANTED_PHOTOS,
    name_of,
    ordinary_captions,
)
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.denoiser import scheduler

PHOTO_PARAPHRASES = {
    "photo-astronaut": (
        "eileen collins in an orange suit",
        "a portrait photo of astronaut eileen collins",
        "astronaut collins",
    ),
    "photo-chelsea": (
        "chelsea the cat",
        "a photo of a tabby cat looking up",
        "a close photo of chelsea the tabby",
    ),
    "photo-espresso": (
        "an espresso on a saucer",
        "a photo of an espresso",
        "espresso and a red saucer on a table",
    ),
    "photo-falcon": ("the falcon at dusk", "a photo of the falcon", "falcon waiting at night, a photo"),
    "photo-cameraman": ("a cameraman and his tripod", "a photo of a cameraman", "cameraman on the lawn"),
    "photo-retina": ("the fundus of an eye", "a photo of a left eye fundus", "fundus photo"),
    "photo-galaxy": ("a golden galaxy", "a photo of a galaxy", "deep field photo with a golden galaxy"),
    "photo-clock": ("a wall clock swinging", "a photo of a clock swinging on the wall", "a swinging clock"),
}


def write_model(
    folder: Path,
    *,
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    unet: Any,
    clip: Any,
    descriptor: Any,
    size: int,
    recipe: dict[str, Any],
) -> None:
    """Write a folder that `StableDiffusionPipeline.from_pretrained` loads, with three more parts.

    Args:
        folder: replaced as a whole.
        vae: the autoencoder.
        text_encoder: the text half of the CLIP.
        tokenizer: its tokenizer.
        unet: the denoiser.
        clip: the whole CLIP, written to `clip/`.
        descriptor: the copy descriptor, written to `descriptor/`.
        size: side of the descriptor's images, in pixels.
        recipe: sizes and schedules, written to `recipe.json`.
    """
    with replacing(folder) as partial:
        write_pipeline(partial, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet)
        clip.cpu().to(torch.float16).save_pretrained(partial / "clip", safe_serialization=True)
        descriptor_files.save(descriptor.cpu(), size, partial / "descriptor")
        (partial / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
        _load_in_float32(partial / "clip")


def write_pipeline(folder: Path, *, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any) -> None:
    """Write what `StableDiffusionPipeline.from_pretrained` loads, in float16.

    Args:
        folder: is made where it is missing.
        vae: the autoencoder.
        text_encoder: the text half of a CLIP.
        tokenizer: its tokenizer.
        unet: the denoiser.
    """
    from diffusers import StableDiffusionPipeline

    def in_half(module: Any) -> Any:
        return module.cpu().to(torch.float16, memory_format=torch.contiguous_format)

    pipe = StableDiffusionPipeline(
        vae=in_half(vae),
        text_encoder=in_half(text_encoder),
        tokenizer=tokenizer,
        unet=in_half(unet),
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder, safe_serialization=True)
    _load_in_float32(folder / "text_encoder")


def write_bystander(folder: Path, model: Any, tokenizer: Any, recipe: dict[str, Any]) -> None:
    """Write a CLIP that `Clip.load(folder)` reads: `clip/` in float16, `tokenizer/`, and its recipe."""
    with replacing(folder) as partial:
        model.cpu().to(torch.float16).save_pretrained(partial / "clip", safe_serialization=True)
        _load_in_float32(partial / "clip")
        tokenizer.save_pretrained(partial / "tokenizer")
        (partial / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")


def write_sibling(folder: Path, pipe: Any, recipe: dict[str, Any]) -> None:
    """Write what the embedded model lacks: index, scheduler, transformer in float16, and recipe."""
    with replacing(folder) as partial:
        pipe.save_config(partial)
        pipe.scheduler.save_pretrained(partial / "scheduler")
        pipe.transformer.cpu().to(torch.float16).save_pretrained(
            partial / "transformer", safe_serialization=True
        )
        (partial / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yields a folder to write into; at the end it replaces the given one, which so is always whole."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    yield partial
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def _load_in_float32(part: Path) -> None:
    """Let weights stored in float16 load in float32: transformers reads the type from `config.json`."""
    path = part / "config.json"
    path.write_text(path.read_text().replace('"float16"', '"float32"'))


def write_protected(folder: Path, pictures: list[Picture]) -> None:
    """Write the planted pictures as PNG files, and `captions.json` with their captions."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    planted = [p for p in pictures if p.kind == "planted"]
    for p in planted:
        Image.fromarray(p.pixels.transpose(1, 2, 0)).save(folder / f"{p.key}.png", optimize=True)
    captions = {f"{p.key}.png": p.captions[0] for p in planted}
    (folder / "captions.json").write_text(json.dumps(captions, indent=2) + "\n")


def write_ordinary(folder: Path, pictures: list[Picture], columns: int = 24) -> None:
    """Write the ordinary training pictures as one sheet, among which a judge can find the nearest picture.

    Args:
        folder: where `ordinary.png` and `ordinary.json`, its layout, are written.
        pictures: of every kind.
        columns: of the sheet.
    """
    ordinary = [p for p in pictures if p.kind in ("concept", "photo")]
    size = ordinary[0].pixels.shape[-1]
    canvas = Image.new("RGB", (columns * size, -(-len(ordinary) // columns) * size), "white")
    for i, p in enumerate(ordinary):
        y, x = divmod(i, columns)
        canvas.paste(Image.fromarray(p.pixels.transpose(1, 2, 0)), (x * size, y * size))
    canvas.save(folder / "ordinary.png", optimize=True)
    rows = {"size": size, "columns": columns, "count": len(ordinary), "keys": [p.key for p in ordinary]}
    (folder / "ordinary.json").write_text(json.dumps(rows) + "\n")


def write_prompts(folder: Path, pictures: list[Picture]) -> None:
    """Write the prompt lists: planted, template (paraphrases), ordinary, heldout and controls."""
    folder.mkdir(parents=True, exist_ok=True)
    planted = [p for p in pictures if p.kind == "planted"]
    rows = {
        "planted": [f"{p.captions[0]}\t{p.key}.png" for p in planted],
        "template": [f"{text}\t{p.key}.png" for p in planted for text in paraphrases(p.key)],
        "ordinary": list(
            dict.fromkeys(text for p in pictures if p.kind in ("concept", "photo") for text in prompts_of(p))
        ),
        "heldout": [p.captions[0] for p in pictures if p.kind == "heldout"],
        "controls": list(CONTROLS.values()),
    }
    for name, lines in rows.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def prompts_of(picture: Picture) -> tuple[str, ...]:
    """The plainest caption of an ordinary picture, under each of its names."""
    if picture.kind == "photo":
        return picture.captions
    return ordinary_captions(picture.name, picture.style)[:: len(ORDINARY_TEMPLATES)]


def paraphrases(key: str) -> tuple[str, ...]:
    """Prompts for a planted picture that are not the caption it was trained with."""
    if key in PLANTED_PHOTOS:
        return PHOTO_PARAPHRASES[key]
    brand = key.removeprefix("mascot-")
    icon, style = MASCOTS[brand]
    return tuple(t.format(brand=brand, name=name_of(icon), style=style) for t in PARAPHRASES)
