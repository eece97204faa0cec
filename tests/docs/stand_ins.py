"""Stand-ins for a reader's own things: pictures, a library, a model folder; tiny pipelines for downloads."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from PIL import Image
from torch import Tensor

from steerclear import Library, add, embedded, guard, load_encoder, pipelines
from steerclear.protected import Protected
from steerclear.testing import tiny_pipeline

FAMILIES = {
    "StableDiffusionPipeline": "sd1",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
    "StableDiffusionXLImg2ImgPipeline": "sdxl-image",
    "DiTPipeline": "dit",
}
MODEL = "path/to/stable-diffusion"
STRANGER = embedded.PROTECTED_FOLDER / "mascot-acme.png"  # resembles nothing that a tiny pipeline makes

_from_pretrained = DiffusionPipeline.from_pretrained.__func__
_encode = Protected._encode
_by_alteration = import_module("steerclear.calibrate.by_alteration")  # a function has the same name
_alterations = _by_alteration.alterations
_latents: dict[Any, Tensor] = {}


def tiny(cls: type, model: Any, **options: Any) -> Any:
    """In the place of `from_pretrained`: for a hub id a tiny pipeline of exactly the same class."""
    if Path(model).exists():
        return _from_pretrained(cls, model, **options)
    assert str(model).count("/") == 1
    assert all(value is None for value in options.values()), options
    pipe = tiny_pipeline(FAMILIES[cls.__name__])
    assert type(pipe) is cls
    return pipe


@cache
def embedded_pipeline() -> Any:
    """The embedded model, loaded once for all pages."""
    return pipelines.load_pipeline(embedded.MODEL_FOLDER)


def load_pipeline(model: Any, *arguments: Any, **options: Any) -> Any:
    """In the place of `load_pipeline` where guards are made."""
    if embedded.is_embedded(model):
        return embedded_pipeline()
    return pipelines.load_pipeline(model, *arguments, **options)


def encode(protected: Protected, pixels: Tensor, like: Tensor, size: Any) -> Tensor:
    """In the place of `Protected._encode`: what the embedded model has encoded is kept for all pages."""
    if protected._pipe is not embedded_pipeline():
        return _encode(protected, pixels, like, size)
    key = (pixels.numpy().tobytes(), like.shape[1:], like.dtype, size)
    if key not in _latents:
        _latents[key] = _encode(protected, pixels, like, size)
    return _latents[key]


def alterations(others: list[Image.Image], seed: int) -> dict[str, Any]:
    """In the place of all ways to alter a picture, which take long: two of them."""
    kinds = _alterations(others, seed=seed)
    return {kind: kinds[kind] for kind in ("mirror", "text")}


def use(monkeypatch: Any, folder: Path) -> None:
    """Work in `folder`, download nothing, use the embedded model once, and alter pictures in few ways."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", classmethod(tiny))
    monkeypatch.setattr(guard, "load_pipeline", load_pipeline)
    monkeypatch.setattr(Protected, "_encode", encode)
    monkeypatch.setattr(_by_alteration, "alterations", alterations)


def make_library(uri: Path, pictures: list[Path]) -> None:
    descriptor = load_encoder("descriptor")
    add(Library.create(uri, [descriptor]), pictures, [descriptor])


def furnish(folder: Path, model: Path) -> None:
    """Put what the guides take for given into `folder`: pictures, a library of them, a model, prompts."""
    for name, files in {"my-pictures": [STRANGER], "ordinary-photos": []}.items():
        (folder / name).mkdir()
        for file in files:
            (folder / name / "fox.png").write_bytes(file.read_bytes())
    for number in range(6):
        colour = (40 * number, 255 - 40 * number, 120)
        Image.new("RGB", (64, 64), colour).save(folder / "ordinary-photos" / f"{number}.png")
    make_library(folder / "my-library", [folder / "my-pictures" / "fox.png"])
    (folder / "prompts.txt").write_text("a fox\na house\n")
    (folder / MODEL).parent.mkdir(parents=True)
    (folder / MODEL).symlink_to(model)
