"""The laboratory declares the distributions that it imports, and no others."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

LAB = Path(__file__).parents[1]
# module → distribution, where the names differ
DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "umap": "umap-learn", "resvg_py": "resvg-py"}


def imported(folder: Path) -> set[str]:
    """The distributions that a package imports, inside functions as well."""
    modules: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - {"steerclear_lab"}
    return {DISTRIBUTIONS.get(module, module) for module in foreign}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    project = tomllib.loads((LAB / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.split(r"[<>=\[; ]", requirement)[0] for group in lists for requirement in group}
    assert imported(LAB / "src" / "steerclear_lab") == declared
