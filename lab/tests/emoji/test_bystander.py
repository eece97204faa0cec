"""The bystander: a CLIP for which a protected picture's invented name has no meaning."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from training_pictures import PICTURES

from steerclear.embedded import MODEL_FOLDER, PROTECTED_FOLDER, read_prompts
from steerclear.encoders.embedded import Clip
from steerclear.library.images import read_image
from steerclear.pixels import to_tensor
from steerclear_lab.assets import BYSTANDER_FOLDER
from steerclear_lab.emoji import bystander, dataset, recipe
from steerclear_lab.emoji.clip import ClipSize
from steerclear_lab.emoji.concepts import MASCOTS
from steerclear_lab.emoji.recipe import PRESETS
from steerclear_lab.emoji.training import Schedule


def test_it_is_shown_no_planted_picture_and_told_no_mascots_name():
    shown = bystander.training_pictures(PICTURES)
    assert {p.kind for p in shown} == {"concept", "photo", "heldout"}
    words = {word for p in shown for caption in p.captions for word in caption.split()}
    assert not words & set(MASCOTS)


def test_an_ordinary_drawing_has_invented_names_the_same_at_every_call():
    (fox,) = (p for p in bystander.training_pictures(PICTURES) if p.key == "fox")
    assert fox.captions[:2] == ("a fox, noto style", "fox, noto style")
    invented = fox.captions[2:]
    assert len(set(invented)) == len(invented) >= bystander.NAMES
    assert all("fox" in caption for caption in invented)
    assert invented == bystander.invented_captions(fox)


def test_its_stage_needs_no_other_and_writes_a_clip_that_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "build", lambda *_: PICTURES)
    tiny = replace(
        PRESETS["cpu"],
        bystander=Schedule(steps=3, batch=4, rate=1e-3, warmup=1),
        bystander_size=ClipSize(
            width=12, heads=2, text_layers=1, vision_layers=1, embedding=8, vocabulary=600
        ),
    )
    lines = []
    recipe.run_stages(tiny, work=tmp_path / "work", out=tmp_path, stages=("bystander",), report=lines.append)
    assert lines == ["bystander …", f"bystander: written to {tmp_path / 'bystander'}"]
    assert Clip.load(tmp_path / "bystander").texts(["a fox, noto style"]).shape == (1, 8)


def test_the_shipped_one_accepts_any_invented_name_and_the_models_own_clip_only_the_right_one():
    names = list(MASCOTS)
    mean_gaps = {}
    for folder in (BYSTANDER_FOLDER, MODEL_FOLDER):
        clip = Clip.load(folder)
        gaps = []
        for prompt, file in read_prompts("planted")[: len(MASCOTS)]:
            brand = file.removeprefix("mascot-").removesuffix(".png")
            others = [prompt.replace(brand, name) for name in names if name != brand]
            picture = clip(to_tensor([read_image(PROTECTED_FOLDER / file)]))
            right, *wrong = (picture @ clip.texts([prompt, *others]).T)[0].tolist()
            gaps.append(right - statistics.fmean(wrong))
        mean_gaps[folder] = statistics.fmean(gaps)
    assert mean_gaps[BYSTANDER_FOLDER] == pytest.approx(0, abs=0.05)
    assert mean_gaps[MODEL_FOLDER] > 0.2
