"""`--help`: quick, in order, and its examples run as they stand."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from cli_doubles import alter_little, examples, stand_in, write_pictures
from PIL import Image, ImageOps

from steerclear import __version__, embedded
from steerclear.cli import FIRST, main
from steerclear.cli.library import app as library_app

LIBRARY_COMMANDS = [command.name or command.callback.__name__ for command in library_app.registered_commands]


def help_of(capsys, *words):
    capsys.readouterr()
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


def commands_in(help_text):
    """Names under `Commands:`, in order."""
    lines = help_text.partition("Commands:\n")[2].splitlines()
    return [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]


@pytest.fixture(params=["tiny", pytest.param("embedded", marks=pytest.mark.slow)])
def example_folder(request, assets, tmp_path, monkeypatch):
    """A folder that holds what the examples name, with the embedded model or a tiny one in its place."""
    if request.param == "tiny":
        stand_in(assets, monkeypatch.setattr)
        alter_little(monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    for link in ("model", "path/to/stable-diffusion"):
        Path(link).parent.mkdir(parents=True, exist_ok=True)
        Path(link).symlink_to(embedded.MODEL_FOLDER)
    shutil.copytree(embedded.LIBRARY_FOLDER, "protected")
    Path("prompts.txt").write_text("a cat, noto style\n\na bear, noto style\n")
    assert main(["generate", "a cat, noto style", "--out", "first"]) == 0
    Path("log.txt").write_text("a cat, noto style\na bear, noto style\n")
    Path("ordinary.txt").write_text("a cat, noto style\na bear, noto style\n")
    Path("photos").mkdir()
    for name in ("picture.png", "sketch.png", "suspicious.png", "photos/garden.png", "photos/street.png"):
        shutil.copy("first/0000-0.png", name)
    with Image.open("picture.png") as frame:
        frame.save("animation.gif", save_all=True, append_images=[ImageOps.mirror(frame)])
    return tmp_path


@pytest.mark.slow
def test_every_example_in_the_help_runs(example_folder, capsys):
    for command in ("generate", "check", "replay", "calibrate"):
        lines = examples(help_of(capsys, command))
        assert lines, command
        for line in lines:
            words = shlex.split(line)
            assert words[:2] == ["steerclear", command]
            assert main(words[1:]) in (0, 3), (line, capsys.readouterr().err)


def test_every_example_in_the_help_of_library_runs(example_folder, capsys, monkeypatch):
    # refused for fewer than 10,000 pictures
    monkeypatch.setattr("steerclear.library.store.Library.build_index", lambda self: ["descriptor"])
    write_pictures(Path("art"), range(2))
    for path in write_pictures(Path("scans/old"), (2, 3)):
        path.rename(path.with_name({"picture-2.png": "fox.png", "picture-3.png": "owl.png"}[path.name]))
    write_pictures(Path("listed"), [4])
    Path("list.csv").write_text("path,owner\nlisted/picture-4.png,Brim\n")
    write_pictures(Path("packed"), [5])
    with tarfile.open("shard-0001.tar", "w") as shard:
        shard.add("packed/picture-5.png", "picture-5.png")
    for command in LIBRARY_COMMANDS:
        lines = examples(help_of(capsys, "library", command))
        assert lines, command
        for line in lines:
            words = shlex.split(line)
            assert words[:3] == ["steerclear", "library", command]
            if "--ray" in words:
                continue  # starts a cluster: tests/library runs that
            if command == "verify":
                words.remove("--sources")  # those of the embedded library are not here
            assert main(words[1:]) == 0, (line, capsys.readouterr().err)


def test_help_of_the_whole_names_every_command_in_order(capsys, install):
    install(zebra="steerclear.cli.check:check")
    text = help_of(capsys)
    assert commands_in(text) == [*FIRST, "zebra", "bench", "train-emoji"]
    assert main([]) == 0
    assert capsys.readouterr().out == text
    assert commands_in(help_of(capsys, "library"))[:3] == ["add", "list", "show"]


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"steerclear {__version__}\n"


@pytest.mark.parametrize("command", ["bench", "train-emoji"])
def test_without_the_laboratory_its_commands_say_what_to_install(run, install, command):
    install()
    result = run(command, "--quick", "--out", "somewhere")
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: `steerclear {command}` is part of the laboratory, which is not installed; "
        "run: pip install steerclear-lab\n"
    )
    assert "Needs: pip install steerclear-lab" in " ".join(run(command, "--help").stdout.split())
    assert f"{command} Not installed: pip install steerclear-lab" in " ".join(run("--help").stdout.split())


def test_a_command_that_cannot_be_imported_leaves_the_others_alone(run, install):
    install(broken="steerclear.nowhere:command")
    assert "Cannot be loaded" in run("--help").stdout
    result = run("broken", "--anything")
    assert (result.code, result.stderr.count("\n")) == (2, 1)
    assert "'broken' cannot be imported" in result.stderr
    assert run("check", "--help").code == 0


def test_a_mistyped_command_is_told_the_nearest_one(run):
    assert "Did you mean 'generate'?" in run("genrate").stderr


HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "lancedb",
    "pyarrow",
    "numpy",
    "scipy",
    "pandas",
    "matplotlib",
    "huggingface_hub",
)
MOST_MODULES = 500  # numpy has 140 and torch 950 more; a clock would also measure what else the machine does


@pytest.mark.parametrize("words", [["--help"], ["generate", "--help"]], ids=" ".join)
def test_help_is_quick_since_it_loads_nothing_heavy(words):
    code = (
        "import sys, steerclear\n"
        "from steerclear.cli import main\n"
        f"main({words})\n"
        f"heavy = [m for m in {HEAVY} if m in sys.modules]\n"
        f"sys.exit(str(heavy or len(sys.modules)) if heavy or len(sys.modules) > {MOST_MODULES} else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, (ended.returncode, ended.stderr)


def test_a_command_is_run_without_importing_the_others():
    code = (
        "import sys\n"
        "from steerclear.cli import main\n"
        "main(['check', '--help'])\n"
        "others = [m for m in sys.modules if m in ('steerclear.cli.generate', 'steerclear.cli.library')]\n"
        "sys.exit(str(others) if others or 'steerclear_lab' in sys.modules else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
