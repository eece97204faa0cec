"""Every Python block of docs/your-model.md runs as it stands; only downloads are replaced, by tiny twins of the same class."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from diffusers import DiffusionPipeline

from steerclear.encoders import load_encoder
from steerclear.library import Library, add
from steerclear.testing import tiny_pipeline
from steerclear.types import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "your-model.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
FAMILIES = {
    "StableDiffusionPipeline": "sd1",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
    "StableDiffusionXLImg2ImgPipeline": "sdxl-image",
    "DiTPipeline": "dit",
}


def twin(cls, hub_id, **options):
    """In the place of `from_pretrained`: the tiny pipeline of exactly the class that was asked for."""
    assert hub_id.count("/") == 1
    assert all(value is None for value in options.values())
    pipe = tiny_pipeline(FAMILIES[cls.__name__])
    assert type(pipe) is cls
    return pipe


def title(block):
    asked = re.search(r"(\w+Pipeline)\.from_pretrained", block)
    return asked.group(1) if asked else "own"


def run(block, folder, monkeypatch, pictures):
    library = Library.create(folder / "my-library", [load_encoder("descriptor")])
    add(library, pictures, [load_encoder("descriptor")])
    monkeypatch.chdir(folder)
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", classmethod(twin))
    names = {"__name__": "page"}
    exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.fixture
def stranger():
    from steerclear.embedded import PROTECTED_FOLDER

    return [PROTECTED_FOLDER / "mascot-acme.png"]


@pytest.mark.parametrize("block", BLOCKS, ids=title)
def test_the_block_runs_and_hands_out_what_the_filters_let_through(block, tmp_path, monkeypatch, stranger):
    names = run(block, tmp_path, monkeypatch, stranger)
    assert [r.outcome for r in names["out"].reports] == [Outcome.CLEAR] * len(names["out"].reports)
    saved = sorted(path.name for path in tmp_path.glob("*.png"))
    assert len(saved) == (len(names["out"].images) if ".save(" in block else 0)


@pytest.mark.parametrize("block", BLOCKS, ids=title)
def test_where_its_picture_is_protected_the_block_does_not_hand_it_out(
    block, tmp_path, monkeypatch, stranger
):
    if title(block) == "StableDiffusionXLImg2ImgPipeline":
        block = block.replace("strength=0.8,", "strength=0.8, generator=torch.Generator().manual_seed(0),")
    if title(block) == "own":
        block = block.replace("unet = UNet2DModel(", "torch.manual_seed(0)\nunet = UNet2DModel(")
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    plain = run(block, tmp_path / "before", monkeypatch, stranger)["out"].images
    for i, image in enumerate(plain):
        image.save(tmp_path / f"protected-{i}.png")
    names = run(
        block, tmp_path / "after", monkeypatch, [tmp_path / f"protected-{i}.png" for i in range(len(plain))]
    )
    for image, report, copy in zip(names["out"].images, names["out"].reports, plain, strict=True):
        assert report.outcome in (Outcome.STEERED, Outcome.WITHHELD)
        assert report.matched
        assert report.attempts
        assert image is None or image.tobytes() != copy.tobytes()


def test_the_page_shows_every_family_that_it_promises():
    assert [title(block) for block in BLOCKS] == [*FAMILIES, "own"]
