"""Product and laboratory declare the distributions that they import, and no others."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# module → distribution, where the names differ
DISTRIBUTIONS = {
    "PIL": "pillow",
    "c2pa": "c2pa-python",
    "cv2": "opencv-python-headless",
    "huggingface_hub": "huggingface-hub",
    "opentelemetry": "opentelemetry-api",
    "prometheus_client": "prometheus-client",
    "resvg_py": "resvg-py",
    "skimage": "scikit-image",
    "umap": "umap-learn",
}
TOOLS = ("dev", "docs")  # extras with programs that are run, not imported
# Imported by a name in a text (formats of pictures, SQLAlchemy's driver), by another package (uploads in
# FastAPI), or under the name of a sibling (the SDK of OpenTelemetry).
BY_NAME = {"opentelemetry-sdk", "pillow-heif", "pillow-jxl-plugin", "psycopg", "python-multipart"}


def imported(package: Path) -> set[str]:
    """The distributions that a package imports, inside functions as well."""
    modules: set[str] = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - {package.name}
    return {DISTRIBUTIONS.get(module, module) for module in foreign}


@pytest.mark.parametrize(
    ("folder", "package"), [(ROOT, "steerclear"), (ROOT / "lab", "steerclear_lab")], ids=["product", "lab"]
)
def test_what_is_imported_is_declared_and_what_is_declared_is_imported(folder: Path, package: str) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    extras = [
        requirements for name, requirements in project["optional-dependencies"].items() if name not in TOOLS
    ]
    lists = [project["dependencies"], *extras]
    declared = {re.split(r"[<>=\[; ]", requirement)[0] for group in lists for requirement in group}
    assert imported(folder / "src" / package) == declared - BY_NAME
