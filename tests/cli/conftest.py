"""The command line, run in a folder of its own against a tiny model and library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_doubles import prepare, stand_in

from steerclear.cli import main


class Ran(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `art` and `library`, made once."""
    folder = tmp_path_factory.mktemp("shelf")
    prepare(folder)
    return folder


@pytest.fixture
def here(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with the tiny model and library in the embedded ones' place."""
    stand_in(shelf, monkeypatch.setattr)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run `steerclear WORDS…` in `here`."""

    def steerclear(*words: object) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return steerclear
