"""`steerclear generate` as its user sees it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_doubles import COPIED, ENCODER, ORDINARY, TOGETHER, plain, write_pictures
from PIL import Image

from steerclear import __version__
from steerclear.cli import generate as generate_command
from steerclear.cli.terminal import uninterrupted
from steerclear.library import Library, add
from steerclear.nudge import DEFAULT_LADDER
from steerclear.output import read_png
from steerclear.pipelines import load_pipeline

REPORT_KEYS = {
    "prompt",
    "seed",
    "outcome",
    "file",
    "detections",
    "attempts",
    "nfe",
    "nfe_plain",
    "seconds",
    "before",
    "after",
    "matched",
    "where",
    "reason",
    "overhead",
    "steerclear_version",
    "library_version",
    "observed",
}


def pixels(image: object) -> np.ndarray:
    return np.asarray(Image.open(image) if isinstance(image, Path) else image)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_clear_picture_is_the_plain_pipelines_and_a_copy_is_steered(run, here, assets):
    result = run("generate", ORDINARY, COPIED, "--compare", *TOGETHER)
    assert (result.code, result.stderr) == (0, "")
    clear, steered = lines(here / "out" / "report.jsonl")
    assert set(clear) == {*REPORT_KEYS, "run"}
    assert [line["outcome"] for line in (clear, steered)] == ["clear", "steered"]
    assert [line["file"] for line in (clear, steered)] == ["0000-0.png", "0001-0.png"]
    assert (steered["matched"], clear["matched"], steered["steerclear_version"]) == (
        "copied",
        None,
        __version__,
    )
    assert steered["overhead"] > clear["overhead"] == 1.0
    assert steered["after"] < steered["before"] == pytest.approx(1.0, abs=1e-5)

    pipe = load_pipeline(assets / "model")
    assert (pixels(here / "out" / "0000-0.png") == pixels(plain(pipe, ORDINARY, 0))).all()
    assert (pixels(here / "out" / "0001-0.png") != pixels(assets / "art" / "copied.png")).any()

    first, second = result.stdout.splitlines()
    assert first.split()[0] == "clear"
    assert second.split()[:2] == ["steered", "copied"]
    assert "1.00 → " in second
    assert "× plain" in second
    assert second.endswith("out/0001-0.png")
    with Image.open(here / "out" / "compare.png") as sheet:
        assert sheet.width > 3 * 192
        assert sheet.height > 2 * 192


def test_a_withheld_picture_leaves_no_file_and_exit_code_three(run, here):
    (here / "out").mkdir()
    (here / "out" / "0000-0.png").write_bytes(b"from an earlier run")
    result = run("generate", COPIED, "--budget", "0", "--seeds", "0-1", "--compare", *TOGETHER)
    assert result.code == 3
    withheld, clear = lines(here / "out" / "report.jsonl")
    assert (withheld["outcome"], withheld["file"], clear["outcome"]) == ("withheld", None, "clear")
    assert "budget of 0.0" in withheld["reason"]
    assert withheld["reason"] in result.stdout
    assert sorted(p.name for p in (here / "out").iterdir()) == ["0000-1.png", "compare.png", "report.jsonl"]


def test_prompts_come_from_arguments_and_file_and_json_prints_the_report(run, here):
    (here / "prompts.txt").write_text(f"\n{ORDINARY}\tfile-of-the-protected.png\n\n  \na lamp\n")
    result = run(
        "generate", "a door", "--prompts", "prompts.txt", "--seeds", "5", "--json", "--out", "a/b", *TOGETHER
    )
    assert result.code == 0
    kept = lines(here / "a" / "b" / "report.jsonl")
    assert all(line.pop("run") for line in kept)
    assert [json.loads(line) for line in result.stdout.splitlines()] == kept
    assert [json.loads(line)["prompt"] for line in result.stdout.splitlines()] == [
        "a door",
        ORDINARY,
        "a lamp",
    ]
    assert (here / "a" / "b" / "0002-5.png").exists()


def test_a_model_and_library_of_ones_own_are_used_with_the_guidance_that_the_model_names(run, here, assets):
    (here / "model").symlink_to(assets / "model")
    words = (
        "--model",
        "model",
        "--library",
        assets / "library",
        "--steps",
        "2",
        "--ladder",
        "rewrite, resample",
    )
    assert run("generate", ORDINARY, *words).code == 0
    assert run("generate", ORDINARY, "--steps", "2", "--out", "embedded").code == 0
    recipe = read_png(here / "out" / "0000-0.png")[1]
    assert (recipe["model"], recipe["guidance"], recipe["ladder"]) == ("model", 4.0, ["rewrite", "resample"])
    assert read_png(here / "embedded" / "0000-0.png")[1]["model"] == "embedded"


def test_alternatives_come_from_a_file_which_the_recipe_remembers(run, here):
    (here / "log.txt").write_text("a fox, flat style\na house\n")
    assert run("generate", ORDINARY, "--alternatives", "log.txt", "--steps", "2").code == 0
    _, recipe = read_png(here / "out" / "0000-0.png")
    assert (recipe["alternatives"], len(recipe["alternatives_fingerprint"])) == ("log.txt", 16)
    assert run("replay", "out/0000-0.png").code == 0
    (here / "log.txt").write_text("a house\n")
    result = run("replay", "out/0000-0.png")
    assert result.code == 2
    assert "'log.txt' have changed" in result.stderr
    assert run("generate", ORDINARY, "--alternatives", "nowhere.txt").code == 2


def test_the_recipe_in_a_picture_says_everything_that_decided_it(run, here, assets):
    (here / "wish.png").write_bytes((assets / "art" / "copied.png").read_bytes())
    assert (
        run(
            "generate", ORDINARY, "--seeds", "7", "--prefer", "wish.png", "--prefer", "a red fox", *TOGETHER
        ).code
        == 0
    )
    _, recipe = read_png(here / "out" / "0000-7.png")
    image = recipe["prefer"].pop(0)
    assert (image["image"], len(image["sha256"])) == ("wish.png", 16)
    fingerprints = recipe.pop("model_fingerprint"), recipe.pop("library_fingerprint")
    assert [len(fingerprint) for fingerprint in fingerprints] == [16, 16]
    assert recipe.pop("ladder") == list(DEFAULT_LADDER)
    assert recipe.pop("library_version") == Library.open(assets / "library").version
    assert recipe == {
        "prompt": ORDINARY,
        "seed": 7,
        "steps": 3,
        "guidance": 4.0,
        "model": "embedded",
        "library": "embedded",
        "device": "cpu",
        "budget": 8.0,
        "filters": [],
        "encoder": "",
        "prefer": [{"text": "a red fox"}],
        "alternatives": "",
        "alternatives_fingerprint": "",
        "negative_prompt": "",
        "height": None,
        "width": None,
        "scheduler": "",
        "loras": [],
        "together": [],
        "image": 0,
        "dtype": "",
        "variant": "",
        "config": "",
        "offload": "",
        "compile": False,
        "outcome": "clear",
        "steerclear_version": __version__,
    }


def test_each_picture_names_the_library_that_it_was_compared_with_also_while_that_grows(
    run, here, assets, monkeypatch
):
    shutil.copytree(assets / "library", here / "growing")
    library = Library.open("growing")
    states = [(library.version, library.fingerprint()[:16])]
    make = generate_command.make

    def make_and_add(*arguments):
        output = make(*arguments)
        if len(states) == 1:
            add(library, write_pictures(here / "art", [1]), [ENCODER])
            states.append((library.version, library.fingerprint()[:16]))
        return output

    monkeypatch.setattr(generate_command, "make", make_and_add)
    assert run("generate", ORDINARY, "--library", "growing", "--seeds", "0-1", *TOGETHER).code == 0
    recipes = [read_png(here / "out" / f"0000-{seed}.png")[1] for seed in (0, 1)]
    assert [(r["library_version"], r["library_fingerprint"]) for r in recipes] == states
    assert [line["library_version"] for line in lines(here / "out" / "report.jsonl")] == [
        version for version, _ in states
    ]


def test_ctrl_c_keeps_what_is_finished_and_exits_with_130(assets, tmp_path):
    code = (
        # a shell that runs this in the background has it ignore the signal
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from cli_doubles import stand_in; from pathlib import Path; stand_in(Path(sys.argv[2]))\n"
        "from steerclear.cli import main; sys.exit(main(sys.argv[3:]))"
    )
    words = ("generate", "a bear", "--seeds", "0-9999", "--steps", "2")
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(assets), *words]
    child = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    report = tmp_path / "out" / "report.jsonl"
    try:
        until = time.monotonic() + 600
        while not (report.exists() and report.read_text().count("\n") >= 2):
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        stderr = child.communicate(timeout=600)[1]
    finally:
        child.kill()
    assert child.returncode == 130
    assert stderr.splitlines()[-1] == "stopped; what is finished is kept"
    assert "Traceback" not in stderr
    kept = [line["file"] for line in lines(report)]
    assert sorted(kept) == sorted(p.name for p in (tmp_path / "out").iterdir() if p.name != "report.jsonl")
    for name in kept:
        assert read_png(tmp_path / "out" / name)[0].size == (64, 64)


def test_an_interrupt_waits_for_the_end_of_a_block():
    events = []

    def save() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            events.append("saved")

    with pytest.raises(KeyboardInterrupt):
        save()
    assert events == ["saved"]


def test_no_picture_is_left_without_its_line(run, here):
    (here / "out" / "report.jsonl").mkdir(parents=True)
    result = run("generate", ORDINARY, *TOGETHER)
    assert result.code == 2
    assert "report.jsonl" in result.stderr
    assert [path.name for path in (here / "out").iterdir()] == ["report.jsonl"]
