"""The benchmark of plain pictures draws each different flag once, and counts what is caught and alike."""

import json
from pathlib import Path

import pytest

from steerclear_lab.bench.copy_detection import page as pages
from steerclear_lab.bench.copy_detection.plain import ALTERATIONS, SETS, flags, measure

BENCHMARKS = Path(__file__).parents[3] / "docs" / "benchmarks"
DOCUMENT = json.loads((BENCHMARKS / "copy-detection.json").read_text())

STRIPES = {
    "pl": ("white", "crimson"),
    "id": ("crimson", "white"),
    "mc": ("crimson", "white"),
    "ua": ("royalblue", "gold"),
}


@pytest.fixture
def folder(tmp_path):
    for name, (upper, lower) in STRIPES.items():
        (tmp_path / f"{name}.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 3">'
            f'<rect width="4" height="1.5" fill="{upper}"/>'
            f'<rect y="1.5" width="4" height="1.5" fill="{lower}"/></svg>'
        )
    return tmp_path


def test_a_flag_that_two_countries_share_is_drawn_once(folder):
    assert list(flags(folder)) == ["id", "pl", "ua"]


def test_two_stripes_are_caught_nearly_unaltered_and_no_two_flags_are_alike(folder):
    figures = measure(flags(folder))
    assert (figures["flags"], figures["plain"], figures["pairs"]) == (3, 3, 6)
    assert figures["alike"] == []
    assert figures["caught"] == {name: {"copies": 3, "missed": []} for name in ALTERATIONS}


def test_the_page_names_what_was_missed_and_what_is_alike():
    alike = [{"picture": "id", "protected": "mc", "sameness": 0.9}]
    caught = {"unaltered": {"copies": 3, "missed": ["ua"]}}
    plain = {"flags": 3, "plain": 2, "caught": caught, "pairs": 6, "alike": alike}
    text = pages.page({**DOCUMENT, "plain": plain}, SETS)
    assert "3 different ones at 256 px" in text
    assert "| unaltered | 3 | 2 | ua |" in text
    assert "Of 6 pairs of different flags 1 are taken for each other as wholes: id as mc (0.90)." in text


def test_the_page_says_nothing_of_plain_pictures_before_they_are_measured():
    assert "## Plain pictures" in pages.page(DOCUMENT, SETS)
    assert "## Plain pictures" not in pages.page({**DOCUMENT, "plain": None}, SETS)
