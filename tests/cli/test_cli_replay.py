"""`steerclear replay`: the same pixels, or a word on why not."""

from __future__ import annotations

import json
import shutil

import pytest
from cli_doubles import COPIED, ENCODER, ORDINARY, TOGETHER
from PIL import Image

from steerclear.cli.recipe import Recipe
from steerclear.library import Library, add
from steerclear.output import CHUNK, read_png, save_png
from steerclear.testing import tiny_pipeline


def rewrite_recipe(path, **changes):
    """Change a picture's recipe in place."""
    image, recipe = read_png(path)
    save_png(path, image, {**recipe, **changes})


def test_a_picture_is_made_again_bit_for_bit_steered_or_not(run, here):
    assert run("generate", ORDINARY, COPIED, *TOGETHER).code == 0
    for name in ("out/0000-0.png", "out/0001-0.png"):
        result = run("replay", name)
        assert (result.code, result.stderr) == (0, "")
        assert result.stdout == f"{name} is bit-identical to what its recipe makes\n"
    assert read_png(here / "out" / "0001-0.png")[1]["outcome"] == "steered"
    assert run("replay", "out/0000-0.png", "--out", "again.png").code == 0
    assert read_png(here / "again.png")[1] == read_png(here / "out" / "0000-0.png")[1]


def test_a_difference_is_counted_and_explained(run, here, assets):
    assert run("generate", ORDINARY, *TOGETHER).code == 0
    path = here / "out" / "0000-0.png"
    image, recipe = read_png(path)
    touched = image.copy()
    touched.putpixel((3, 4), tuple(255 - value for value in image.getpixel((3, 4))))
    save_png(path, touched, {**recipe, "steerclear_version": "0.0.1"})
    result = run("replay", path)
    assert result.code == 3
    assert "differs from what its recipe makes: 1 of 4096 pixels, by up to " in result.stdout
    assert "made by steerclear 0.0.1" in result.stdout

    save_png(path, image.resize((32, 32)), recipe)
    assert "it is 64 × 64 now, and was 32 × 32" in run("replay", path).stdout


def test_a_picture_that_has_become_protected_is_not_handed_out_again(run, here):
    assert run("generate", ORDINARY, "--budget", "0", *TOGETHER).code == 0
    library = Library.create(here / "library", [ENCODER])
    add(library, [here / "out" / "0000-0.png"], [ENCODER])
    result = run("replay", "out/0000-0.png", "--library", "library", "--out", "again.png")
    assert result.code == 3
    assert "it is withheld now, and was clear; the library has changed since" in result.stdout
    assert not (here / "again.png").exists()


def test_a_difference_names_a_version_of_the_library_that_was_compacted_away(run, here, assets):
    library = here / "library"
    shutil.copytree(assets / "library", library)
    assert run("generate", ORDINARY, "--library", library, *TOGETHER).code == 0
    version = read_png(here / "out" / "0000-0.png")[1]["library_version"]
    add(Library.open(library), [here / "out" / "0000-0.png"], [ENCODER])
    words = ("replay", "out/0000-0.png", "--library", library)
    lost = f"version {version} of the library, with which it was compared, is no longer kept: a compaction"
    assert lost not in run(*words).stdout
    assert run("library", "compact", "--versions", "1", "--library", library).code == 0
    result = run(*words)
    assert (result.code, lost in result.stdout) == (3, True)


def test_another_model_is_refused_before_anything_is_made(run, here):
    assert run("generate", ORDINARY, *TOGETHER).code == 0
    tiny_pipeline(seed=1).save_pretrained(here / "other")
    result = run("replay", "out/0000-0.png", "--model", "other", "--out", "again.png")
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: 'out/0000-0.png' was made by a model with fingerprint ")
    assert not (here / "again.png").exists()


def test_nothing_is_fetched_because_a_picture_names_it(run, here):
    assert run("generate", ORDINARY, *TOGETHER).code == 0
    rewrite_recipe(here / "out" / "0000-0.png", model="somebody/model")
    result = run("replay", "out/0000-0.png")
    assert result.code == 2
    assert "'somebody/model', which is no folder here; pass --model" in result.stderr
    for library in ("s3://somebody/library", "/somebody/library", "."):
        rewrite_recipe(here / "out" / "0000-0.png", model="embedded", library=library)
        result = run("replay", "out/0000-0.png")
        assert result.code == 2
        assert f"{library!r}, and a name in a picture opens none; pass --library" in result.stderr


@pytest.mark.parametrize(
    "reads",
    [{"alternatives": "/dev/zero"}, {"prefer": [{"image": "/dev/zero", "sha256": "0" * 16}]}],
)
def test_a_recipe_makes_nobody_read_a_device(run, here, reads):
    assert run("generate", ORDINARY, "--budget", "0", *TOGETHER).code == 0
    rewrite_recipe(here / "out" / "0000-0.png", **reads)
    result = run("replay", "out/0000-0.png")
    assert (result.code, result.stdout) == (2, "")
    assert "'/dev/zero'" in result.stderr


@pytest.mark.parametrize("field", ["alternatives", "prefer"])
def test_a_recipe_makes_nobody_read_a_file_without_end(run, here, field):
    large = here / "large.txt"
    with large.open("wb") as stream:
        stream.truncate(2**40)  # takes no room
    value = [{"image": str(large), "sha256": "0" * 16}] if field == "prefer" else str(large)
    assert run("generate", ORDINARY, "--budget", "0", *TOGETHER).code == 0
    rewrite_recipe(here / "out" / "0000-0.png", **{field: value})
    result = run("replay", "out/0000-0.png")
    assert (result.code, "more than the limit of" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", 3),
        ("prompt", " "),
        ("seed", "0"),
        ("seed", -1),
        ("steps", True),
        ("steps", 0),
        ("guidance", None),
        ("ladder", "rewrite"),
        ("ladder", ["dance"]),
        ("filters", "hash"),
        ("filters", [3]),
        ("filters", None),
        ("encoder", None),
        ("prefer", [{"file": "x"}]),
        ("prefer", ["fox"]),
        ("budget", "much"),
        ("device", "abacus"),
    ],
)
def test_a_damaged_recipe_is_named_by_its_field(run, here, field, value):
    picture = here / "picture.png"
    undamaged = Recipe(prompt="a bear", steps=2, budget=8.0, outcome="clear").to_dict()
    save_png(picture, Image.new("RGB", (8, 8)), {**undamaged, field: value})
    result = run("replay", picture)
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert (field if field != "ladder" or value != ["dance"] else "strategy") in result.stderr
    assert json.loads(Image.open(picture).text[CHUNK])[field] == value
