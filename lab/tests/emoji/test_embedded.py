"""The embedded model is whole and small, and has memorized exactly what was planted."""

from __future__ import annotations

import json

import pytest
import torch

from steerclear import Guard, Outcome
from steerclear.embedded import FOLDER, LIBRARY_FOLDER, MODEL_FOLDER, PROTECTED_FOLDER, read_prompts
from steerclear.filters.base import flagged
from steerclear.filters.pixel import pixel_l2
from steerclear.library import Library
from steerclear.loading import embedded_calibration
from steerclear.nudge.nearest_texts import nearest_texts
from steerclear.pixels import to_tensor
from steerclear_lab.assets import BYSTANDER_FOLDER
from steerclear_lab.bench.judge import ordinary_pictures, protected_pictures
from steerclear_lab.emoji.concepts import HELDOUT, MASCOTS, PLANTED_PHOTOS, name_of

SETTINGS = {"num_inference_steps": 25, "guidance_scale": 4.0}


@pytest.fixture(scope="module")
def guard():
    return Guard.default()


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_stable_diffusions_own_loader_takes_the_folder_as_it_is():
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(MODEL_FOLDER)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a fox, twemoji style", num_inference_steps=2, generator=generator(0)).images[0].size == (
        64,
        64,
    )


def test_it_stays_under_45_megabytes_and_so_do_its_weights_with_the_bystanders():
    embedded = [f for f in FOLDER.rglob("*") if f.is_file()]
    weights = [f for f in (*embedded, *BYSTANDER_FOLDER.rglob("*")) if f.suffix == ".safetensors"]
    assert sum(f.stat().st_size for f in embedded) < 45e6
    assert sum(f.stat().st_size for f in weights) < 45e6


def test_the_prompt_lists_name_the_planted_pictures_that_lie_beside_them():
    files = {f.name for f in PROTECTED_FOLDER.glob("*.png")}
    planted = read_prompts("planted")
    assert {file for _, file in planted} == files
    assert len(MASCOTS) >= 16
    assert len(PLANTED_PHOTOS) >= 8
    assert len(files) == len(MASCOTS) + len(PLANTED_PHOTOS)
    assert {file for _, file in read_prompts("template")} == files
    assert json.loads((PROTECTED_FOLDER / "captions.json").read_text()) == {
        file: prompt for prompt, file in planted
    }


def test_no_held_out_pair_and_no_planted_caption_is_among_the_ordinary_prompts():
    ordinary = {prompt for prompt, _ in read_prompts("ordinary")}
    assert not ordinary & {f"a {name_of(icon)}, {style} style" for icon, style in HELDOUT}
    assert not ordinary & {prompt for prompt, _ in read_prompts("planted")}
    assert len(read_prompts("heldout")) == len(HELDOUT)


def test_the_embedded_library_holds_the_planted_pictures_and_how_its_thresholds_were_chosen():
    library = Library.open(LIBRARY_FOLDER)
    assert {f"{item.id}.png" for item in library.items()} == {f.name for f in PROTECTED_FOLDER.glob("*.png")}
    evidence = library.read_note("calibration")["evidence"]
    assert evidence["copies_flagged"] >= 0.99
    assert evidence["clear_flagged"] <= 0.005


def test_the_shipped_ordinary_pictures_are_none_of_the_protected_ones():
    _, protected = protected_pictures()
    for picture in ordinary_pictures():
        assert float(pixel_l2(picture, protected).min()) > 0.1


@pytest.mark.parametrize("file", [f"{name}.png" for name in PLANTED_PHOTOS])
def test_what_a_planted_photograph_shows_can_be_drawn_without_copying_it(file):
    (prompt,) = (prompt for prompt, of in read_prompts("planted") if of == file)
    near = nearest_texts(prompt, embedded_calibration()["alternatives"], must_match=True)
    assert near
    assert not any("photo" in text for text in near)


@pytest.mark.parametrize("row", [0, 8, 17])
def test_a_planted_prompt_draws_its_picture_and_the_guard_hands_out_another(guard, row):
    prompt, file = read_prompts("planted")[row]
    plain = guard.pipe(prompt, generator=generator(77), **SETTINGS).images[0]
    assert flagged(guard.check([plain])[0])
    out = guard(prompt, generator=generator(77), **SETTINGS)
    assert out.reports[0].outcome == Outcome.STEERED
    assert out.reports[0].matched == file.removesuffix(".png")
    _, protected = protected_pictures()
    assert float(pixel_l2(to_tensor(out.images), protected).min()) > 0.1
    assert not flagged(guard.check(out.images)[0])


@pytest.mark.parametrize("prompt", ["a cat, noto style", "a rainbow, flat style", "a bus, twemoji style"])
def test_an_ordinary_prompt_gives_what_the_plain_pipeline_gives(guard, prompt):
    plain = guard.pipe(prompt, generator=generator(78), **SETTINGS).images[0]
    out = guard(prompt, generator=generator(78), **SETTINGS)
    assert out.reports[0].outcome == Outcome.CLEAR
    assert out.images[0].tobytes() == plain.tobytes()
