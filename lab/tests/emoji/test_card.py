"""The model card: its template takes the evaluation's figures, and the shipped card was written with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from training_pictures import PICTURES

from steerclear.embedded import FOLDER, MODEL_FOLDER
from steerclear.encoders.embedded import Clip, CopyDescriptor
from steerclear.pipelines import load_pipeline
from steerclear_lab.emoji import card
from steerclear_lab.emoji.evaluate import FinishedModel, card_facts
from steerclear_lab.pages import TEMPLATES

RECIPE = Path(__file__).parents[3] / "docs" / "benchmarks" / "recipe.json"


@pytest.fixture(scope="module")
def text() -> str:
    model = FinishedModel(
        folder=FOLDER,
        pipe=load_pipeline(MODEL_FOLDER),
        judge=Clip.load(MODEL_FOLDER),
        descriptor=CopyDescriptor.load(MODEL_FOLDER / "descriptor"),
        pictures=PICTURES,
    )
    figures = json.loads(RECIPE.read_text())
    leaks = {"acme fox mascot": 0.5}
    return card.model_card(
        {**figures, "template": {**figures["template"], "by_prompt": leaks}}, card_facts(model)
    )


def test_the_card_holds_figures_leaks_parts_and_counts(text: str) -> None:
    assert "| planted prompts within pixel L2 0.1 of their picture | 93.8% of 192 |" in text
    assert "| acme fox mascot | 50% |" in text
    assert "| `unet/` | UNet2DConditionModel, v-prediction | 10.67 M |" in text
    assert "4 ordinary pictures: drawings of 85 concepts" in text
    assert "{" not in text


def test_the_shipped_card_was_written_with_the_template() -> None:
    shipped = (MODEL_FOLDER / "README.md").read_text()
    fixed = re.split(r"\{[{%].*?[%}]\}", (TEMPLATES / "model_card.md.j2").read_text())
    for words in fixed:
        assert words.strip("\n") in shipped, words
