"""The reference is complete: every public name, every registered name, every command and option."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from typing import Any

import pytest
import typer
from docs_pages import DOCS, ROOT

import steerclear
from steerclear.cli import app
from steerclear.nudge.ladder import DEFAULT_LADDER

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAMES = (DOCS / "reference" / "names.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return NAMES.split(f"\n## {title}\n")[1].split("\n## ")[0]


def listed(title: str) -> set[str]:
    """The names in the first column of a section's table."""
    cells = re.findall(r"^\| (`[^|]+) \|", section(title), re.MULTILINE)
    return {name.partition(":")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


@pytest.mark.parametrize(
    ("title", "group"),
    [
        ("Strategies", "steerclear.strategies"),
        ("Filters", "steerclear.filters"),
        ("Encoders", "steerclear.encoders"),
    ],
)
def test_the_page_of_names_lists_what_the_product_registers(title: str, group: str) -> None:
    assert listed(title) == set(PROJECT["entry-points"][group])


def test_the_default_ladder_is_the_one_that_the_page_names() -> None:
    sentence = re.search(r"The default ladder is (.*?)\. ", section("Strategies"), re.DOTALL)
    assert sentence is not None
    assert tuple(re.findall(r"`([^`]+)`", sentence[1])) == DEFAULT_LADDER


def test_every_public_name_has_its_place_in_the_reference() -> None:
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (DOCS / "reference" / "api").glob("*.md"))
    documented = re.findall(r"^::: steerclear\.(\w+)$", pages, re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert set(documented) == set(steerclear.__all__) - {"__version__"}


def test_the_command_line_reference_has_every_command_and_option() -> None:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = hooks.cli_reference()

    def check(command: Any, path: str) -> None:
        assert f"# `{path}`\n" in page
        for parameter in command.params:
            for option in parameter.opts:
                assert option.lstrip("-") in page or parameter.param_type_name == "argument", (path, option)
        for name, inner in getattr(command, "commands", {}).items():
            check(inner, f"{path} {name}")

    check(typer.main.get_command(app), "steerclear")
    assert hooks.MARKER in (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")


def test_every_file_that_how_it_works_names_is_there() -> None:
    text = (DOCS / "concepts" / "how-it-works.md").read_text(encoding="utf-8")
    for path in re.findall(r"`([\w/]+(?:\.py|/))`", text.split("## Which file holds which step")[1]):
        if path != "src/steerclear/":
            assert (ROOT / "src" / "steerclear" / path).exists(), path


def test_the_rooms_that_contributing_names_are_the_floors_of_the_code() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| floor |")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:])))
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    floors = {room.strip() for layer in layers for room in re.split("[|:]", layer)}
    old_homes = {"bench", "emoji"}
    assert named == {room for room in floors if not room.startswith("_")} - old_homes
