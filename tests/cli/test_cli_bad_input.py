"""Bad input: one line that names the thing, exit code 2, and nothing left on disk."""

from __future__ import annotations

import shutil

import pytest
from PIL import Image

from steerclear.cli.recipe import Recipe
from steerclear.fingerprints import model_fingerprint
from steerclear.library import Library
from steerclear.output import save_png


@pytest.fixture
def messy(here, assets):
    """A folder with files that are not what a command expects."""
    (here / "empty.txt").write_text("\n  \n")
    (here / "latin.txt").write_bytes(b"caf\xe9\n")
    (here / "long.txt").write_text("a fox\n" + "x" * 4001 + "\n")
    (here / "broken.png").write_bytes(b"no picture")
    (here / "file").write_text("a file")
    (here / "folder").mkdir()
    (here / "half-a-model").mkdir()
    (here / "half-a-model" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"')
    shutil.copytree(assets / "library", here / "damaged")
    for path in (here / "damaged" / "items.lance" / "data").iterdir():
        path.write_bytes(b"")
    shutil.copy(assets / "art" / "copied.png", here / "no-recipe.png")
    return here


@pytest.fixture
def emptied(here, assets):
    """A calibrated library whose only item was removed, and a picture that was made with it."""
    shutil.copytree(assets / "library", here / "emptied")
    image = Image.open(assets / "art" / "copied.png")
    recipe = Recipe(
        prompt="a fox",
        library="emptied",
        steps=3,
        guidance=4.0,
        budget=8.0,
        model_fingerprint=model_fingerprint(assets / "model"),
    )
    save_png(here / "made.png", image, recipe.to_dict())
    Library.open("emptied").remove(["copied"])
    return assets / "art" / "copied.png"


@pytest.mark.parametrize(
    "words",
    [
        ["check", "COPY", "--library", "emptied"],
        ["check", "COPY", "--library", "emptied", "--filter", "hash"],
        ["generate", "a fox", "--library", "emptied"],
        ["calibrate", "--clean", "COPY", "--library", "emptied"],
        ["replay", "made.png", "--library", "emptied"],
    ],
)
def test_no_command_calls_anything_clear_by_a_library_that_holds_nothing(run, emptied, words):
    result = run(*(emptied if word == "COPY" else word for word in words))
    assert (result.code, result.stdout) == (2, "")
    assert "'emptied' holds no items" in result.stderr
    assert "steerclear library add PICTURES --library emptied" in result.stderr


@pytest.mark.parametrize(("words", "code"), [(["broken.png"], 1), (["broken.png", "nowhere.png"], 2)])
def test_adding_nothing_leaves_no_library_behind_by_which_everything_would_be_clear(
    run, messy, assets, words, code
):
    result = run("library", "add", *words, "--library", "new")
    assert result.code == code
    if code == 1:
        assert "0 added, 0 already there, 1 failed; no library was created" in result.stdout
    assert not (messy / "new").exists()
    result = run("check", assets / "art" / "copied.png", "--library", "new")
    assert result.code == 2
    assert "there is no library at 'new'; create one with `steerclear library add`" in result.stderr


def test_adding_nothing_to_a_library_that_is_there_leaves_it_as_it_was(run, messy, assets):
    shutil.copytree(assets / "library", messy / "kept")
    assert run("library", "add", "broken.png", "--library", "kept").code == 1
    assert len(Library.open("kept")) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generate"], "no prompt was given"),
        (["generate", ""], "the prompt is empty"),
        (["generate", "a fox", " \t"], "the prompt is empty"),
        (["generate", "x" * 10_000], "10000 characters; 4000 is the most"),
        (["generate", "--prompts", "nowhere.txt"], "cannot read the prompts 'nowhere.txt'"),
        (["generate", "--prompts", "folder"], "cannot read the prompts 'folder'"),
        (["generate", "--prompts", "latin.txt"], "not UTF-8"),
        (["generate", "--prompts", "empty.txt"], "no prompt in 'empty.txt'"),
        (["generate", "--prompts", "long.txt"], "line 2 of 'long.txt' has 4001 characters"),
        (["generate", "a fox", "--seeds", ""], "seeds ''"),
        (["generate", "a fox", "--seeds", "one"], "seeds 'one'"),
        (["generate", "a fox", "--seeds", "-1"], "seeds '-1'"),
        (["generate", "a fox", "--seeds", "0-3,"], "seeds '0-3,'"),
        (["generate", "a fox", "--seeds", "3-1"], "write 1-3"),
        (["generate", "a fox", "--seeds", "9223372036854775808"], "out of range"),
        (["generate", "a fox", "--seeds", "0-1000000"], "more than 100000"),
        (["generate", "a fox", "--seeds", "0-999", "--compare"], "--compare draws at most"),
        (["generate", "a fox", "--steps", "0"], "steps is 0"),
        (["generate", "a fox", "--steps", "1001"], "steps is 1001"),
        (["generate", "a fox", "--steps", "many"], "'many'"),
        (["generate", "a fox", "--guidance", "nan"], "guidance is nan"),
        (["generate", "a fox", "--guidance", "-2"], "guidance is -2"),
        (["generate", "a fox", "--budget", "-1"], "budget is -1"),
        (["generate", "a fox", "--budget", "nan"], "budget is nan"),
        (["generate", "a fox", "--ladder", "condition,dance"], "unknown strategy 'dance'; there are"),
        (["generate", "a fox", "--ladder", ""], "empty name"),
        (["generate", "a fox", "--device", "abacus"], "device 'abacus'"),
        (["generate", "a fox", "--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (["generate", "a fox", "--prefer", "nowhere.png"], "no image 'nowhere.png'"),
        (["generate", "a fox", "--prefer", "broken.png"], "broken.png"),
        (["generate", "a fox", "--prefer", " "], "to prefer is empty"),
        (["generate", "a fox", "--out", "file"], "--out 'file' is a file"),
        (["generate", "a fox", "--out", "file/below"], "'file' is a file; choose a folder"),
        (["generate", "a fox", "--model", "/nowhere"], "there is no model folder /nowhere"),
        (["generate", "a fox", "--model", "./nowhere"], "there is no model folder ./nowhere"),
        (["generate", "a fox", "--model", "nowhere"], "no model folder nowhere"),
        (["generate", "a fox", "--model", "folder"], "no diffusers pipeline"),
        (["generate", "a fox", "--model", "file"], "is no .safetensors file"),
        (["generate", "a fox", "--model", "half-a-model"], "half-a-model cannot be loaded"),
        (["generate", "a fox", "--library", "nowhere"], "no library at 'nowhere'"),
        (["generate", "a fox", "--library", "folder"], "'folder' is no library"),
        (["generate", "a fox", "--library", "file"], "'file'"),
        (["generate", "a fox", "--library", "damaged"], "'damaged'"),
        (["generate", "a fox", "--colour", "red"], "No such option"),
        (["check"], "Missing argument"),
        (["check", "broken.png"], "broken.png"),
        (["check", "no-recipe.png", "--library", "folder"], "'folder' is no library"),
        (["replay", "nowhere.png"], "cannot read 'nowhere.png'"),
        (["replay", "broken.png"], "broken.png"),
        (["replay", "no-recipe.png"], "carries no recipe"),
        (["dance"], "dance"),
    ],
    ids=lambda value: " ".join(word[:30] for word in value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_and_nothing_is_written(run, messy, words, says):
    before = sorted(messy.rglob("*"))
    result = run(*words)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert sorted(messy.rglob("*")) == before


def test_a_prompt_that_is_no_text_is_refused(run):
    result = run("generate", "caf\udce9")
    assert result.code == 2
    assert "not valid UTF-8" in result.stderr
