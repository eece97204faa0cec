"""The block of "Use it with your model" for every family of its table, and the one for an own pipeline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import stand_ins
from docs_pages import DOCS, blocks
from PIL import Image

from steerclear import Outcome

PAGE = DOCS / "how-to" / "your-model.md"
PYTHON = [block.text for block in blocks(PAGE) if block.language == "python"]
BLOCK = PYTHON[0]
OWN = next(text for text in PYTHON if "class PixelPipeline" in text)
ROW = re.compile(r"^\| [^|]+ \| `(\w+Pipeline)` \| `([^`]+)` \| `([^`]+)` \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE.read_text(encoding="utf-8"))


def block_for(pipeline: str, loading: str, call: str) -> str:
    """The page's block with one row of its table in the place of Stable Diffusion 1.5."""
    _, its_loading, its_call = ROWS[0]
    assert BLOCK.count(its_loading) == BLOCK.count(its_call) == 1
    named = BLOCK.replace("StableDiffusionPipeline", pipeline)
    return named.replace(its_loading, loading).replace(its_call, call)


CASES = {**{row[0]: block_for(*row) for row in ROWS}, "own": OWN}


def run(block: str, folder: Path, monkeypatch: pytest.MonkeyPatch, pictures: list[Path]) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    stand_ins.use(monkeypatch, folder)
    stand_ins.make_library(folder / "my-library", pictures)
    names = {"__name__": "page", "sketch": Image.new("RGB", (64, 64), "white")}
    exec(compile(block, str(PAGE), "exec"), names)
    return names


@pytest.mark.parametrize("case", CASES)
def test_the_block_runs_and_hands_out_what_the_filters_let_through(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = run(CASES[case], folder=tmp_path, monkeypatch=monkeypatch, pictures=[stand_ins.STRANGER])
    assert [r.outcome for r in names["out"].reports] == [Outcome.CLEAR] * len(names["out"].reports)
    saved = list(tmp_path.glob("*.png"))
    assert len(saved) == (0 if case == "own" else len(names["out"].images))


@pytest.mark.parametrize("case", CASES)
def test_where_its_picture_is_protected_the_block_does_not_hand_it_out(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the same weights twice; and fewer steps, since a whole ladder is climbed
    block = CASES[case].replace("unet = UNet2DModel(", "torch.manual_seed(0)\nunet = UNet2DModel(")
    block = re.sub(r"num_inference_steps=\d+", "num_inference_steps=4", block)
    plain = run(block, folder=tmp_path / "before", monkeypatch=monkeypatch, pictures=[stand_ins.STRANGER])[
        "out"
    ].images
    files = [tmp_path / f"protected-{i}.png" for i in range(len(plain))]
    for image, file in zip(plain, files, strict=True):
        image.save(file)
    out = run(block, folder=tmp_path / "after", monkeypatch=monkeypatch, pictures=files)["out"]
    for image, report, copy in zip(out.images, out.reports, plain, strict=True):
        assert report.outcome in (Outcome.STEERED, Outcome.WITHHELD)
        assert report.matched
        assert report.attempts
        assert image is None or image.tobytes() != copy.tobytes()


def test_the_table_has_every_family_that_is_tried() -> None:
    assert [row[0] for row in ROWS] == list(stand_ins.FAMILIES)
