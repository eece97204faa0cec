"""Every code block of the README and the guides is run, from top to bottom, or says why it is not.

Python blocks of a page share their names. Shell blocks are run in the same folder. What a page takes for
given is in `stand_ins`. A block that is not run has the comment `<!-- not run: REASON -->` above it. Its
command lines must still be understood: a command, an option, an extra, a target of the Makefile or a module
that is not there fails the test.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import stand_ins
import typer
from docs_pages import DOCS, GUIDES, ROOT, Block, blocks, commands, name_of, words

from steerclear.cli import app, main
from steerclear.testing import tiny_pipeline

PAGES = [page for page in GUIDES if any(block.language for block in blocks(page))]
TUTORIALS = DOCS / "tutorials"
RUN = ("python", "bash", "console")
SHOWN = ("text", "toml")  # nothing that could be run
ENDINGS = (0, 3)  # 3: something is flagged or withheld


# pages whose blocks take more than a few seconds: they run in the slow tier
LONG = {"docs/how-to/command-line.md", "docs/tutorials/protect-a-folder.md", "docs/how-to/calibrate.md"}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline("sd1").save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if name_of(page) in LONG else ()) for page in PAGES],
    ids=name_of,
)
def test_the_blocks_of_a_page_run_from_top_to_bottom(
    page: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runnable = [block for block in blocks(page) if block.language in RUN and block.reason is None]
    if not runnable:
        pytest.skip("no block of this page can be run here, and each says why")
    stand_ins.use(monkeypatch, tmp_path)
    if TUTORIALS not in page.parents:  # a tutorial begins with nothing
        stand_ins.furnish(tmp_path, model)
    names: dict[str, Any] = {"__name__": "page"}
    for block in runnable:
        if block.title is not None:
            (tmp_path / block.title).write_text(block.text)
        elif block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.text, str(page), "exec"), names)
            if block.prints is not None:
                assert printed.getvalue() == block.prints
        else:
            for command in commands(block):
                run(command, tmp_path, monkeypatch)


def run(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = words(command)
    if pieces[0] == "steerclear":
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(pieces[1:]) in ENDINGS, command
    elif pieces[0] == "export":
        name, _, value = pieces[1].partition("=")
        monkeypatch.setenv(name, value)
    else:
        subprocess.run(["bash", "-c", command], cwd=folder, check=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        assert block.language in (*RUN, *SHOWN), f"a block of {name_of(page)} names no language"
        assert block.reason is None or block.language in RUN, f"{name_of(page)}: {block.reason!r}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_is_understood(page: Path) -> None:
    for block in blocks(page):
        if block.language in ("bash", "console"):
            for command in commands(block):
                check_command(words(command), block)


def check_command(pieces: list[str], block: Block) -> None:
    if pieces[0] == "steerclear":
        parse(pieces[1:])
    elif pieces[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(pieces[1:]) <= set(targets), pieces
    elif pieces[:2] == ["pip", "install"]:
        place, _, extra = pieces[2].partition("[")
        project = tomllib.loads((ROOT / place / "pyproject.toml").read_text())["project"]
        assert not extra or extra.rstrip("]") in project["optional-dependencies"], pieces
    elif pieces[0].startswith("deploy/") or pieces[0] in ("docker", "runuser"):
        files = [piece for piece in pieces if piece.startswith("deploy/")]
        assert all((ROOT / file).is_file() for file in files), pieces  # tests/deploy looks inside them
        for start in (i for i, piece in enumerate(pieces) if piece.endswith("bin/steerclear")):
            parse(pieces[start + 1 :])
    else:
        assert pieces[0] in ("printf", "export"), f"{pieces[0]!r} is not known to this test: {block.text}"


def parse(arguments: list[str]) -> None:
    """Raises a usage error for a command or an option that does not exist."""
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="steerclear")
    while hasattr(command, "resolve_command"):
        name, command, arguments = command.resolve_command(context, arguments)
        context = command.context_class(command, info_name=name, parent=context)
    assert not command.context_settings.get("ignore_unknown_options"), "install the laboratory to check this"
    command.make_context(context.info_name, arguments, parent=context.parent)


def test_an_option_that_does_not_exist_is_noticed() -> None:
    parse(["generate", "a fox", "--seeds", "0-1"])
    for wrong in (["generate", "a fox", "--seed", "0"], ["library", "ad", "x"], ["train"]):
        with pytest.raises(Exception, match="No such"):
            parse(wrong)


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_extras_and_modules_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"steerclear\[(\w+)\]", text)) <= set(extras)
    for module in re.findall(r"python -m (steerclear_lab[\w.]+\w)", text):
        path = ROOT / "lab" / "src" / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_no_example_imports_from_an_inner_module(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            modules = re.findall(r"^\s*(?:from|import) (steerclear[\w.]*)", block.text, re.MULTILINE)
            inner = {
                m
                for m in modules
                if m not in ("steerclear", "steerclear.records", "steerclear.testing") and "_lab" not in m
            }
            assert not inner, f"{name_of(page)}: {inner}"
