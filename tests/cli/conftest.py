"""The command line, run in a folder of its own against a tiny model and library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_doubles import prepare, stand_in

from steerclear import plugins
from steerclear.cli import main


class Result(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `art` and `library`, made once."""
    folder = tmp_path_factory.mktemp("assets")
    prepare(folder)
    return folder


@pytest.fixture
def here(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with the tiny model and library in the embedded ones' place."""
    stand_in(assets, monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run `steerclear WORDS…` in `here`."""

    def steerclear(*words: object) -> Result:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Result(code, *capsys.readouterr())

    return steerclear


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Only the product's entry points are installed, and the commands that are given as name=value."""

    def install_commands(**commands: str) -> None:
        def only(*, group: str) -> list[EntryPoint]:
            product = [e for e in entry_points(group=group) if e.module.split(".")[0] == "steerclear"]
            is_command = group == plugins.GROUPS["command"]
            return product + [EntryPoint(n, v, group) for n, v in commands.items() if is_command]

        monkeypatch.setattr(plugins, "entry_points", only)
        plugins._registered.cache_clear()

    yield install_commands
    monkeypatch.undo()
    plugins._registered.cache_clear()
