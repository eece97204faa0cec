"""Every number in the docs comes from a committed document: pages are made again and compared, and in prose
each is declared.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steerclear import protected
from steerclear.calibrate import ordinary
from steerclear.nudge import screen
from steerclear.serve import images
from steerclear_lab.assets import ASSETS
from steerclear_lab.bench import publish, readme

ROOT = Path(__file__).parents[3]
BENCHMARKS = ROOT / "docs" / "benchmarks"


def document(name: str) -> Any:
    return json.loads((BENCHMARKS / f"{name}.json").read_text())


QUOTED = "a figure of the page that its sentence links to, rounded, or arithmetic on such figures"
CONVENTION = "a name, a default or a definition, and nothing that was measured"


def sibling(name: str, document: str) -> Any:
    return json.loads((ASSETS / "siblings" / name / f"{document}.json").read_text())


def parameters(name: str) -> str:
    return f"{sibling(name, 'figures')['parameters'] / 1e6:.1f}"


def megabytes(file: str) -> str:
    return f"{(ASSETS / file).stat().st_size / 1e6:.1f}"


def weights(sibling: str) -> str:
    return megabytes(f"siblings/{sibling}/transformer/diffusion_pytorch_model.safetensors")


def read_right_by_the_bystander() -> str:
    figures = json.loads((ASSETS / "bystander" / "figures.json").read_text())
    return f"{figures['heldout']['top5']:.0%}".replace("%", " %")


def million_draws(name: str) -> str:
    schedule = sibling(name, "recipe")["schedule"]
    return f"{schedule['steps'] * schedule['batch'] / 1e6:.1f}"


def preview_error(neighbourhood: int) -> str:
    return f"{document('details')['preview']['rmse'][str(neighbourhood)]:.2f}"


def exact_milliseconds(size: int) -> float:
    rows = document("scale")["rows"]
    return next(row["ms_1"]["p95"] for row in rows if row["size"] == size and row["way"] == "exact")


GUIDES = [ROOT / "README.md", *(p for p in sorted((ROOT / "docs").rglob("*.md")) if p.parent != BENCHMARKS)]

# numbers with a decimal point or a percent sign in prose, by file: a convention, or what reads it from a
# document
DECLARED: dict[str, dict[str, str | Callable[[], str]]] = {
    "README.md": {"3.11": CONVENTION, "1.4": CONVENTION},
    "docs/reference/pictures.md": {"5 %": CONVENTION, "11.3": CONVENTION},
    "docs/how-to/train-the-embedded-model.md": {
        "7.5": CONVENTION,
        "0.1": CONVENTION,
        "5.8": lambda: parameters("dit"),
        "5.5": lambda: parameters("flow"),
        "11.5": lambda: weights("dit"),
        "11.0": lambda: weights("flow"),
        "5.9": lambda: million_draws("dit"),
        "4.2": lambda: million_draws("flow"),
    },
    "docs/concepts/embedded-model.md": {
        "0.1": CONVENTION,
        "3.7": lambda: megabytes("bystander/clip/model.safetensors"),
        "89 %": read_right_by_the_bystander,
    },
    "docs/concepts/pull-target.md": {
        "0.35": lambda: f"{screen.SAFE}",
        "0.75": lambda: f"{screen.HOPELESS}",
        "0.9": lambda: f"{screen.AGREES}",
        "10 %": lambda: f"{ordinary.SHARED:.0%}".replace("%", " %"),
        "15 %": lambda: f"{protected.SHARED:.0%}".replace("%", " %"),
    },
    "docs/concepts/objective.md": {"0.05": CONVENTION},
    "docs/concepts/how-it-works.md": {
        "0.12": lambda: preview_error(1),
        "0.09": lambda: preview_error(3),
        "0.26": lambda: f"{document('details')['preview']['rmse_one_colour']:.2f}",
    },
    "docs/how-to/filters.md": {
        "59 %": lambda: f"{document('details')['hash']['different_most']:.0%}".replace("%", " %"),
        "88 %": lambda: f"{document('details')['hash']['threshold']:.0%}".replace("%", " %"),
    },
    "docs/how-to/calibrate.md": dict.fromkeys(("1 %", "95 %", "0.1 %", "0.95", "0.93", "90 %"), CONVENTION),
    "docs/tutorials/protect-a-folder.md": dict.fromkeys(("1 %", "95 %"), CONVENTION),
    "docs/tutorials/first-picture.md": {"3.11": CONVENTION},
    "docs/how-to/serve.md": {"0.8": lambda: f"{images.STRENGTH}"},
    "docs/how-to/large-libraries.md": {
        "0.2": lambda: f"{math.ceil(exact_milliseconds(1_000_000) / 100) / 10}",
    },
    "docs/how-to/more-than-one-machine.md": {
        **dict.fromkeys(
            ("0.02", "0.19", "0.2", "0.7", "0.77", "1.1", "1.3", "1.4", "1.6", "1.9", "11 %", "4.1", "8.2"),
            QUOTED,
        ),
        "6.2": lambda: f"{document('serving')['overhead']['own_ms']['p50']:.1f}",
        "92 %": QUOTED,
    },
    "docs/how-to/page.md": {"2.2": CONVENTION},
    "docs/how-to/review-and-audit.md": {"0.001": CONVENTION},
    "docs/how-to/your-model.md": {"1.5": CONVENTION, "2.2": CONVENTION, "1 %": CONVENTION},
}


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Every page as its document gives it."""
    return publish.pages(BENCHMARKS)


@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("*.md")), ids=lambda file: file.stem)
def test_a_page_says_what_its_document_says(file: Path, pages: dict[str, str]) -> None:
    assert file.stem in pages, f"{file.name} has no document: name in PAGES what writes it, and from which"
    assert file.read_text() == pages[file.stem], "run: python -m steerclear_lab.bench.publish docs/benchmarks"


def test_every_document_has_its_page() -> None:
    documents = {file.stem for file in BENCHMARKS.glob("*.json")}
    assert documents <= {file.stem for file in BENCHMARKS.glob("*.md")}


def test_the_table_of_the_readme_is_what_the_main_job_measured() -> None:
    text = (ROOT / "README.md").read_text()
    assert readme.updated(text, document("main-job")) == text, "run: python -m steerclear_lab.bench.readme"


def prose(text: str) -> str:
    """Markdown without code, addresses, and the README's table, which has a test of its own."""
    text = re.sub(f"{readme.BEGIN}.*?{readme.END}", "", text, flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)|https?://\S+", "", text)


def numbers(text: str) -> list[str]:
    """Those with a decimal point or a percent sign; a paper's number on arXiv is none."""
    text = re.sub(r"arXiv \d{4}\.\d{5}", "", text)
    written = re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?: ?%)?(?![\w.]*\d)", text)
    return [number for number in written if "." in number or "%" in number]


@pytest.mark.parametrize("file", GUIDES, ids=lambda f: f.stem)
def test_a_number_in_prose_is_declared_with_where_it_comes_from(file: Path) -> None:
    name = file.relative_to(ROOT).as_posix()
    undeclared = set(numbers(prose(file.read_text()))) - set(DECLARED.get(name, {}))
    assert not undeclared, f"{name}: say in DECLARED where {sorted(undeclared)} come from"


@pytest.mark.parametrize(
    ("number", "read"),
    [(number, read) for declared in DECLARED.values() for number, read in declared.items() if callable(read)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_measured_number_in_prose_is_what_its_document_says(number: str, read: Callable[[], str]) -> None:
    assert read() == number


def test_nothing_is_declared_that_is_not_there() -> None:
    for name, declared in DECLARED.items():
        gone = set(declared) - set(numbers(prose((ROOT / name).read_text())))
        assert not gone, f"{name}: {sorted(gone)} are declared but no longer there"


def test_what_counts_as_a_number() -> None:
    assert numbers("of 24 pictures 93.8% and 1 % of 2,995 at 0.1, v2, 4 × 4 and (arXiv 2408.15450)") == [
        "93.8%",
        "1 %",
        "0.1",
    ]
