"""The page "What is supported": every class of diffusers is on it, and each says what is true of it."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import pytest

from steerclear_lab.bench import supported

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
DOCUMENT = json.loads((REFERENCE / "supported.json").read_text())
ROWS = {row["name"]: row for row in DOCUMENT["rows"]}
CLASSES = {cls.__name__: (cls, tasks) for cls, tasks in supported.pipeline_classes().items()}
QUICK = {
    "FluxControlInpaintPipeline",  # run, of a flow-matching family
    "HeliosPipeline",  # refused
    "QwenImageEditPipeline",  # read
    "StableDiffusionXLControlNetPAGImg2ImgPipeline",  # run, with a network beside the denoiser
}


def test_every_class_of_the_image_mappings_is_on_the_page() -> None:
    assert DOCUMENT["diffusers"] == diffusers.__version__
    assert set(ROWS) == set(CLASSES)
    page = (REFERENCE / "supported.md").read_text()
    assert page == supported.page(DOCUMENT)
    assert all(f"| `{name}` |" in page for name in CLASSES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(CLASSES)]
)
def test_what_the_page_says_of_a_class_is_so(name: str) -> None:
    cls, tasks = CLASSES[name]
    assert {**supported.tried(cls), "tasks": tasks} == ROWS[name]
