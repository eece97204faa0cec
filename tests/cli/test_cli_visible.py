"""What is printed for a person to read hides nothing and gives the terminal no orders."""

from __future__ import annotations

import pytest
from cli_doubles import write_pictures

from steerclear.cli.terminal import visible
from steerclear.library import Library, add
from steerclear.testing import FakeEncoder

HOSTILE = {
    "an escape code": "\x1b[2J\x1b]0;owned\x07",
    "a newline": "a\nb",
    "a carriage return": "fine\rgone",
    "a right-to-left mark": "gnp.\u202eevil",
    "a zero width space": "a\u200bb",
    "a line separator": "a\u2028b",
    "a C1 control": "a\x9b31mb",
    "half a surrogate": "a\udcffb",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_seen_is_escaped_and_the_rest_stays(text):
    assert visible(text).isprintable()
    assert visible(text) != text


def test_letters_of_any_language_stay_as_they_are():
    for text in ("Bär – 狐狸 – лиса", "🦊", r"C:\art", "a  b"):
        assert visible(text) == text


def is_visible(output):
    return all(c.isprintable() or c == "\n" for c in output)


@pytest.mark.parametrize("text", [t for t in HOSTILE.values() if "\udcff" not in t])
def test_a_library_of_hostile_names_is_listed_shown_searched_and_verified_in_the_open(run, here, text):
    write_pictures(here / "art", [0])
    encoder = FakeEncoder()
    library = Library.create("library", [encoder])
    fields = {"owner": text, "licence": text, "note": text, "tags": (text,)}
    name = text.replace("\x07", "")
    (here / "art" / "picture-0.png").rename(here / "art" / f"{name}.png")
    add(library, [here / "art"], [encoder], captions={f"{name}.png": text}, **fields)
    (item,) = library.items()
    lines = {
        ("library", "list", "-l", "library"): 2,
        ("library", "show", item.id, "-l", "library"): None,
        ("library", "stats", "-l", "library"): None,
        ("library", "log", "-l", "library"): None,
        ("library", "verify", "-l", "library", "--sources"): None,
        ("library", "add", "art", "/no\x1b[31m/such", "-l", "library"): None,
    }
    for words, count in lines.items():
        result = run(*words)
        assert is_visible(result.stdout), words
        assert is_visible(result.stderr), words
        assert result.code == 2 if "add" in words else result.code in (0, 1), result.stderr
        if count is not None:
            assert result.stdout.count("\n") == count
