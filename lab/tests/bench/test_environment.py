"""A page says so where its figures were made on other weights or by other source than what ships."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from steerclear_lab.bench import documents, publish
from steerclear_lab.bench.environment import (
    NO_SOURCE,
    OTHER_SOURCE,
    OTHER_WEIGHTS,
    PACKAGE,
    PICTURE_SOURCE,
    changes,
    environment,
    remark,
    source_fingerprint,
)

BENCHMARKS = Path(__file__).parents[3] / "docs" / "benchmarks"
MARKER = "0" * 16


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the source that makes pictures."""
    for part in PICTURE_SOURCE:
        source, copy = PACKAGE / part, tmp_path / "package" / part
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(source, copy)
    return tmp_path / "package"


@pytest.fixture
def stamped(tmp_path: Path) -> Path:
    """Copies of the committed documents, which name another source."""
    for file in BENCHMARKS.glob("*.json"):
        shutil.copy(file, tmp_path)
    publish.stamp(tmp_path, MARKER)
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_figures_of_what_ships_need_no_remark() -> None:
    assert changes(environment()) == []
    assert remark(environment()) == []


@pytest.mark.parametrize("recorded", [{}, {"weights": MARKER}])
def test_figures_of_other_weights_or_of_unrecorded_ones_are_remarked_on(recorded: dict[str, Any]) -> None:
    assert OTHER_WEIGHTS in changes(recorded)
    assert OTHER_WEIGHTS not in changes(recorded, weights_matter=False)


@pytest.mark.parametrize(("recorded", "sentence"), [({}, NO_SOURCE), ({"source": MARKER}, OTHER_SOURCE)])
def test_figures_of_other_or_unrecorded_source_are_remarked_on(
    recorded: dict[str, Any], sentence: str
) -> None:
    assert sentence in changes(recorded)
    assert f"> {sentence}" in remark(recorded)
    assert sentence not in changes(recorded, source_matters=False)


def test_the_source_of_a_copy_is_the_source_itself(package: Path) -> None:
    assert source_fingerprint(package) == source_fingerprint()


def test_another_gamma_is_another_source(package: Path) -> None:
    edit(package / "nudge" / "condition.py", "HOLD = 0.5", "HOLD = 4.0")
    assert source_fingerprint(package) != source_fingerprint()


def test_another_threshold_is_another_source(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steerclear.loading import embedded_calibration

    calibration = json.loads(json.dumps(embedded_calibration()))
    calibration["thresholds"]["nearest"] += 0.01
    monkeypatch.setattr("steerclear_lab.bench.environment.embedded_calibration", lambda: calibration)
    assert source_fingerprint(package) != source_fingerprint()


def test_comments_docstrings_and_layout_leave_the_source_as_it_is(package: Path) -> None:
    file = package / "nudge" / "condition.py"
    text = file.read_text()
    body = text[text.index("from __future__") :]
    file.write_text(f'"""Another docstring."""\n# a comment\n\n{body}\n\n# the end\n')
    edit(file, "HOLD = 0.5", "HOLD = (\n    0.50\n)  # as strong as it was")
    assert source_fingerprint(package) == source_fingerprint()


@pytest.mark.parametrize("name", sorted(publish.PAGES))
def test_a_page_says_where_the_source_has_changed_if_the_source_decides_its_figures(
    name: str, stamped: Path
) -> None:
    page = publish.PAGES[name]
    text = page.write(documents.read(stamped / f"{name}.json"))
    assert (OTHER_SOURCE in text) == page.depends_on_source


@pytest.mark.parametrize(
    "name", ["main-job", "early", "memorization", "optimisers", "preferring", "rungs", "rivals"]
)
def test_the_remark_is_the_first_line_under_the_title(name: str, stamped: Path) -> None:
    lines = publish.PAGES[name].write(documents.read(stamped / f"{name}.json")).splitlines()
    assert lines[0].startswith("# ")
    assert lines[2] == f"> {OTHER_SOURCE}"


def test_a_stamp_changes_nothing_else_in_a_document(stamped: Path) -> None:
    for name, page in publish.PAGES.items():
        before = documents.read(BENCHMARKS / f"{name}.json")
        after = documents.read(stamped / f"{name}.json")
        assert (MARKER in json.dumps(after)) == page.depends_on_source
        assert without_source(after) == without_source(before)
        lines = (stamped / f"{name}.json").read_text().count("\n")
        assert abs(lines - (BENCHMARKS / f"{name}.json").read_text().count("\n")) <= 4


def without_source(value: Any) -> Any:
    """A document without the stamps in its environments, and without an environment of nothing else."""
    if not isinstance(value, dict):
        return value
    kept = {key: without_source(entry) for key, entry in value.items()}
    if "environment" in kept:
        kept["environment"].pop("source", None)
        if not kept["environment"]:
            del kept["environment"]
    return kept
