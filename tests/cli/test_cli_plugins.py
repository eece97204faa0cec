"""Filters, encoders and strategies by name on the command line; a file's word alone imports nothing."""

from __future__ import annotations

import json
import sys

import pytest
from cli_doubles import COPIED, ORDINARY, TOGETHER, alter_little, plain, write_pictures

from steerclear.library import Library, add
from steerclear.output import read_png, save_png
from steerclear.pipelines import load_pipeline
from steerclear.testing import FakeEncoder

OWN = """
from pathlib import Path

Path("imported").touch()

from steerclear.filters import PromptFilter
from steerclear.nudge.condition import Resample
from steerclear.testing import FakeEncoder, MockFilter

flags_all = MockFilter(True, name="flags-all")
another = MockFilter(False, name="another")
flags_none = MockFilter(False, name="flags-none")
blocked = PromptFilter.of(["fox"])
redraw = Resample(name="redraw")
encoder = FakeEncoder(name="own_plugins:encoder")


def no_filter():
    return "a text"
"""


@pytest.fixture
def own_plugins(here, monkeypatch):
    """A module in the working folder, which leaves a file `imported` when it is imported."""
    (here / "own_plugins.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(here))])

    def forget():
        sys.modules.pop("own_plugins", None)
        (here / "imported").unlink(missing_ok=True)
        monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(here)])

    forget()
    yield forget
    forget()


def detected_by(line):
    return [detection["filter"] for detection in line["detections"]]


def rewrite_recipe(path, **changes):
    """Change a picture's recipe in place; None removes a field."""
    image, recipe = read_png(path)
    recipe = {name: value for name, value in {**recipe, **changes}.items() if value is not None}
    save_png(path, image, recipe)


def refused_without_import(result, here, name, option):
    """Whether a command refused the name without importing it, and said which option would allow it."""
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert repr(name) in result.stderr
    assert option in result.stderr
    return not (here / "imported").exists() and "own_plugins" not in sys.modules


def test_generate_adds_named_filters_to_the_librarys(run, here, own_plugins):
    filters = ("--filter", "own_plugins:another", "--filter", "own_plugins:flags_none", "--filter", "pixel")
    result = run("generate", ORDINARY, "--json", *filters, *TOGETHER)
    assert (result.code, result.stderr) == (0, "")
    assert detected_by(json.loads(result.stdout)) == [
        "nearest",
        "pixel",
        "tiled",
        "copy",
        "another",
        "flags-none",
    ]
    recipe = read_png(here / "out" / "0000-0.png")[1]
    assert recipe["filters"] == ["own_plugins:another", "own_plugins:flags_none"]
    result = run("generate", ORDINARY, "--filter", "own_plugins:flags_all", "--budget", "0", *TOGETHER)
    assert result.code == 3


def test_check_adds_named_filters_to_the_librarys(run, here, assets, own_plugins):
    write_pictures(here, [0])
    result = run("check", "picture-0.png", "--filter", "own_plugins:flags_all", "--filter", "hash")
    line = json.loads(result.stdout)
    assert (result.code, line["flagged"]) == (3, True)
    assert [(d["filter"], d["flagged"]) for d in line["detections"]] == [
        ("nearest", False),
        ("pixel", False),
        ("tiled", False),
        ("copy", False),
        ("flags-all", True),
        ("hash", False),
    ]
    copied = json.loads(run("check", assets / "art" / "copied.png", "--filter", "hash").stdout)
    assert [d["flagged"] for d in copied["detections"] if d["filter"] == "hash"] == [True]


def test_check_refuses_a_filter_that_sees_no_pictures(run, here, own_plugins):
    write_pictures(here, [0])
    result = run("check", "picture-0.png", "--filter", "own_plugins:blocked")
    assert (result.code, result.stdout) == (2, "")
    assert "sees prompts or a running pipeline, not finished pictures" in result.stderr


@pytest.mark.parametrize("command", [("generate", ORDINARY), ("check", "picture-0.png")])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dance", "unknown filter 'dance'; there are copy"),
        ("", "the filter '' has no name"),
        ("no_such_module:filter", "'no_such_module:filter' cannot be imported"),
        ("own_plugins:no_filter", "no filter"),
    ],
)
def test_a_name_that_gives_no_filter_is_refused(run, here, own_plugins, command, name, message):
    write_pictures(here, [0])
    result = run(*command, "--filter", name)
    assert (result.code, result.stdout) == (2, "")
    assert message in result.stderr


def test_replay_imports_a_filter_only_if_the_user_names_it_too(run, here, own_plugins):
    name = "own_plugins:flags_none"
    assert run("generate", ORDINARY, "--filter", name, *TOGETHER).code == 0
    own_plugins()
    assert refused_without_import(
        run("replay", "out/0000-0.png"), here=here, name=name, option=f"--filter {name}"
    )
    assert refused_without_import(
        run("replay", "out/0000-0.png", "--filter", "own_plugins:other"),
        here=here,
        name=name,
        option=f"--filter {name}",
    )
    result = run("replay", "out/0000-0.png", "--filter", name)
    assert (result.code, result.stderr) == (0, "")


def test_replay_imports_a_strategy_only_if_the_user_names_it_too(run, here, own_plugins):
    name = "own_plugins:redraw"
    assert run("generate", COPIED, "--ladder", f"{name},rewrite", *TOGETHER).code == 0
    recipe = read_png(here / "out" / "0000-0.png")[1]
    assert (recipe["ladder"], recipe["outcome"]) == ([name, "rewrite"], "steered")
    own_plugins()
    assert refused_without_import(
        run("replay", "out/0000-0.png"), here=here, name=name, option=f"--ladder {name}"
    )
    result = run("replay", "out/0000-0.png", "--ladder", name)
    assert (result.code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("field", "value", "name", "option"),
    [
        ("filters", ["own_plugins:flags_none"], "own_plugins:flags_none", "--filter"),
        ("ladder", ["own_plugins:redraw"], "own_plugins:redraw", "--ladder"),
        ("encoder", "own_plugins:encoder", "own_plugins:encoder", "--encoder"),
        ("encoder", "sscd:somewhere.pt", "sscd:somewhere.pt", "--encoder"),
        ("encoder", "transformers:somebody/model", "transformers:somebody/model", "--encoder"),
    ],
)
def test_a_recipe_that_was_tampered_with_imports_and_fetches_nothing(
    run, here, own_plugins, monkeypatch, field, value, name, option
):
    assert run("generate", ORDINARY, *TOGETHER).code == 0
    rewrite_recipe(here / "out" / "0000-0.png", **{field: value})
    monkeypatch.syspath_prepend(here)  # even where it could be imported
    assert refused_without_import(run("replay", "out/0000-0.png"), here=here, name=name, option=option)


def test_replay_refuses_names_that_the_recipe_does_not_have(run, here):
    assert run("generate", ORDINARY, *TOGETHER).code == 0
    result = run("replay", "out/0000-0.png", "--filter", "hash")
    assert result.code == 2
    assert "does not name the filter 'hash'; leave --filter out" in result.stderr


def test_a_picture_of_an_earlier_version_is_replayed(run, here):
    assert run("generate", ORDINARY, *TOGETHER).code == 0
    rewrite_recipe(here / "out" / "0000-0.png", filters=None, encoder=None)
    assert "filters" not in read_png(here / "out" / "0000-0.png")[1]
    assert run("replay", "out/0000-0.png").code == 0


# the commands that open a library, which is named last
COMMANDS = (
    ("library", "add", "clean", "--library"),
    ("library", "search", "art/picture-0.png", "--library"),
    ("check", "art/picture-0.png", "--library"),
    ("calibrate", "--clean", "clean", "--fpr", "0.4", "--library"),
    ("generate", ORDINARY, *TOGETHER, "--library"),
)


@pytest.fixture
def own_library(run, here, own_plugins):
    """A calibrated library that was built with an encoder of the user's own."""
    write_pictures(here / "art", range(3))
    write_pictures(here / "clean", range(3, 9))
    result = run("library", "add", "art", "-l", "own", "--encoder", "own_plugins:encoder")
    assert result.code == 0, result.stderr
    assert result.stderr.splitlines()[-1].endswith(
        "steerclear calibrate --library own --clean IMAGES_OR_PROMPTS --encoder own_plugins:encoder"
    )
    thresholds = {"nearest": 0.999, "pixel": 0.99, "tiled": 0.99}
    Library.open("own").write_note("calibration", {"thresholds": thresholds})
    own_plugins()
    return "own"


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_a_librarys_encoder_is_imported_only_if_the_user_names_it_too(
    run, here, own_library, words, monkeypatch
):
    alter_little(monkeypatch.setattr)
    result = run(*words, own_library)
    assert (result.code, result.stdout) == (2, "")
    assert "names the encoder 'own_plugins'" in result.stderr
    assert not (here / "imported").exists()
    result = run(*words, own_library, "--encoder", "own_plugins:encoder")
    assert result.code in (0, 3), result.stderr
    assert (here / "imported").exists()


HOSTILE = (
    "sscd:evil.pt",
    "transformers:attacker/model",
    "vae:attacker/model",
    "transformers:folder",
    "os:system",
)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]))
def test_a_librarys_word_alone_reads_no_file_runs_no_code_and_asks_no_hub(
    run, here, words, name, monkeypatch
):
    write_pictures(here / "art", range(2))
    write_pictures(here / "clean", range(3, 6))
    (here / "evil.pt").write_bytes(b"a program")
    (here / "folder").mkdir()
    encoder = FakeEncoder(name=name)
    library = Library.create("hostile", [encoder])
    add(library, [here / "art"], [encoder])
    library.write_note("calibration", {"thresholds": {"nearest": 0.999, "pixel": 0.99, "tiled": 0.99}})
    touched = []
    for target in (
        "torch.jit.load",
        "transformers.AutoModel.from_pretrained",
        "steerclear.pipelines.load_pipeline",
        "steerclear.encoders.pretrained.hashlib.sha256",
    ):
        monkeypatch.setattr(target, lambda *args, target=target, **kwargs: touched.append(target))
    result = run(*words, "hostile")
    assert (result.code, result.stdout) == (2, "")
    assert f"--encoder {name}" in result.stderr
    assert touched == []


def test_a_picture_made_with_an_encoder_of_ones_own_is_replayed_with_it(run, here, own_library, own_plugins):
    named = ("--encoder", "own_plugins:encoder")
    assert run("generate", ORDINARY, "--library", own_library, *named, *TOGETHER).code == 0
    own_plugins()
    result = run("replay", "out/0000-0.png", "--library", own_library)
    assert refused_without_import(
        result, here=here, name="own_plugins:encoder", option="--encoder own_plugins:encoder"
    )
    assert run("replay", "out/0000-0.png", "--library", own_library, *named).code == 0


def test_an_encoder_that_the_library_was_not_built_with_is_refused(run, here):
    write_pictures(here, [0])
    result = run("check", "picture-0.png", "--encoder", "clip")
    assert result.code == 2
    assert "was built with descriptor, not with 'clip'" in result.stderr


def test_a_filter_leaves_a_clear_picture_as_it_was(run, here, assets, own_plugins):
    assert run("generate", ORDINARY, "--filter", "own_plugins:flags_none", *TOGETHER).code == 0
    picture = read_png(here / "out" / "0000-0.png")[0]
    assert picture.tobytes() == plain(load_pipeline(assets / "model"), ORDINARY, 0).tobytes()
