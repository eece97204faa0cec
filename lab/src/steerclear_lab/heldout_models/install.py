"""From what training wrote to a folder that benchmarks use: model, bystander, protected pictures, prompts."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from steerclear.errors import InputError, ModelError
from steerclear_lab.assets import HELDOUT_MODELS_FOLDER
from steerclear_lab.emoji.dataset import Picture


def install(name: str, tar: Path, pictures: list[Picture], folder: Path = HELDOUT_MODELS_FOLDER) -> Path:
    """Unpack a trained model, and write its protected pictures and prompts beside it.

    Args:
        name: of the model.
        tar: what training wrote.
        pictures: that it was trained on, of every kind.
        folder: the result goes to `folder/name`, which is replaced.

    Returns:
        `folder/name`, with model/, bystander/, protected/, prompts/ and figures.json.
    """
    from steerclear_lab.emoji import export

    with export.replacing(folder / name) as partial:
        partial.mkdir(parents=True)
        with tarfile.open(tar) as archive:
            archive.extractall(partial, filter="data")
        for path in (partial / name).iterdir():
            if path.suffix != ".jsonl":
                shutil.move(path, partial / path.name)
        shutil.rmtree(partial / name)
        export.write_protected(partial / "protected", pictures)
        write_prompts(partial / "prompts", pictures)
    return folder / name


def write_prompts(folder: Path, pictures: list[Picture]) -> None:
    """Write `planted.txt` (caption, tab, picture), `ordinary.txt` and `heldout.txt`.

    Args:
        folder: is made where it is missing.
        pictures: of every kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    planted = [f"{text}\t{p.key}.png" for p in pictures if p.kind == "planted" for text in p.captions]
    ordinary = dict.fromkeys(p.captions[0] for p in pictures if p.kind == "concept")
    heldout = dict.fromkeys(p.captions[0] for p in pictures if p.kind == "heldout")
    for name, lines in (("planted", planted), ("ordinary", ordinary), ("heldout", heldout)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def load_heldout_model(name: str, folder: Path = HELDOUT_MODELS_FOLDER) -> Any:
    """Load a held-out model, in float32 and on the CPU.

    Args:
        name: "clipart" or "scenes".
        folder: holds the model in `folder/name/model`.

    Returns:
        A StableDiffusionPipeline.

    Raises:
        ModelError: if it is not there.
    """
    from diffusers import StableDiffusionPipeline

    model = folder / name / "model"
    if not (model / "model_index.json").is_file():
        raise ModelError(
            f"there is no held-out model in {model}; train it with steerclear_lab.heldout_models.train"
        )
    pipe = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build_library(name: str, out: Path, folder: Path = HELDOUT_MODELS_FOLDER) -> Any:
    """Build the protected library of a held-out model, as its owner would, with the shipped descriptor.

    Args:
        name: of the model.
        out: folder of the library.
        folder: holds the model in `folder/name`.

    Returns:
        The library.
    """
    from steerclear.encoders.embedded import CopyDescriptor
    from steerclear.library import Library, Source, add

    encoder = CopyDescriptor.default()
    protected = folder / name / "protected"
    captions = json.loads((protected / "captions.json").read_text())
    sources = [
        Source(f"protected/{f.name}", f.read_bytes, {"id": f.stem, "caption": captions[f.name]})
        for f in sorted(protected.glob("*.png"))
    ]
    library = Library.create(out, [encoder])
    report = add(library, sources, [encoder])
    if report.failed:
        raise InputError(f"pictures of {protected} are no images: {report.failed}")
    return library
