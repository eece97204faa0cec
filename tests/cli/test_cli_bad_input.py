"""Bad input: one line that names the thing, exit code 2, and nothing left on disk."""

from __future__ import annotations

import shutil

import pytest


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
        (["generate", "a fox", "--model", "file"], "no diffusers pipeline"),
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
    ids=lambda value: " ".join(one[:30] for one in value) if isinstance(value, list) else "",
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
