"""A library of another format is changed by a command and never by opening it."""

from __future__ import annotations

import json
from pathlib import Path

import lancedb
import pyarrow as pa
import pytest
from library_doubles import write_pictures

from steerclear.embedded import LIBRARY_FOLDER
from steerclear.errors import LibraryError
from steerclear.library import Library, add, verify
from steerclear.library.migrate import migrate
from steerclear.library.schema import FORMAT, METADATA_KEY, TURN


def rewritten(library, change, format_=FORMAT):
    """The rows of a library written anew with other columns or another format, as another program would."""
    table = lancedb.connect(library.uri).open_table("items")
    rows = change(table.to_arrow())
    metadata = json.loads(table.schema.metadata[METADATA_KEY]) | {"format": format_}
    table.add(rows.replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()}), mode="overwrite")
    return library.uri


def files(uri):
    return {path: path.read_bytes() for path in Path(uri).rglob("*") if path.is_file()}


OTHERS = {
    "format 0": (lambda rows: rows, 0, "old format 0"),
    "format 0 without captions": (
        lambda rows: rows.drop_columns(["caption", "tags", "added", "phash"]),
        0,
        "format 0",
    ),
    "lacks a column": (lambda rows: rows.drop_columns(["policy"]), FORMAT, "lacks policy"),
    "has a column": (
        lambda rows: rows.append_column("stars", pa.array([5] * len(rows))),
        FORMAT,
        "has stars",
    ),
    "other type": (
        lambda rows: rows.set_column(5, "licence", rows["licence"].cast(pa.large_string())),
        FORMAT,
        "lacks licence",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_library_with_other_columns_is_refused_unchanged_and_a_command_brings_it_in_order(
    library, encoder, pictures, case
):
    change, format_, said = OTHERS[case]
    expected = library.export()
    uri = rewritten(library, change, format_)
    before = files(uri)
    for use in (Library.open, lambda uri: Library.open_or_create(uri, [encoder])):
        with pytest.raises(
            LibraryError, match=rf"{said}.* left as it is: run `steerclear library migrate --library"
        ):
            use(uri)
    assert files(uri) == before
    done = migrate(uri)
    assert done.done
    again = Library.open(uri)
    # a perceptual hash that was missing is that of the thumbnail, which is nearly the picture's
    kept = ["id", "source", "sha256", "owner", "thumbnail", "vector_tiny"]
    for item, phash in zip(again.items(), expected["phash"].to_pylist(), strict=True):
        assert (int(item.phash, 16) ^ int(phash, 16)).bit_count() <= 10
    assert again.export().select(kept).to_pylist() == expected.select(kept).to_pylist()
    assert {item.policy for item in again.items()} == {"steer"}
    assert verify(again, sources=True) == []
    assert add(again, pictures, [encoder]).added == []
    again.restore(done.version_before)
    with pytest.raises(LibraryError, match="left as it is"):
        Library.open(uri)


def test_nothing_is_done_to_a_library_of_this_format(library):
    before = files(library.uri)
    done = migrate(library.uri)
    assert (done.version, done.done) == (library.version, ())
    assert {path: content for path, content in files(library.uri).items() if path in before} == before
    assert migrate(LIBRARY_FOLDER).done == ()


def test_a_library_of_the_future_is_refused_and_left_alone(library):
    uri = rewritten(library, lambda rows: rows.append_column("more", pa.array([1] * len(rows))), FORMAT + 1)
    before = files(uri)
    for use in (Library.open, migrate):
        with pytest.raises(
            LibraryError, match=rf"format {FORMAT + 1}, .* reads {FORMAT}; upgrade steerclear"
        ):
            use(uri)
    assert {path: content for path, content in files(uri).items() if path in before} == before


@pytest.mark.parametrize("column", ["vector_tiny", "thumbnail", "sha256"])
def test_what_nothing_can_make_up_is_named_and_the_library_left_as_it_is(library, column):
    uri = rewritten(library, lambda rows: rows.drop_columns([column]), 0)
    with pytest.raises(LibraryError, match=rf"no {column}, which nothing can make up; it was left as it is"):
        migrate(uri)


def test_a_library_that_was_copied_to_an_address_needs_the_column_for_taking_turns(
    library, encoder, pictures, tmp_path
):
    address = Path(library.uri).as_uri()
    copy = Library.open(address)
    assert len(copy.items()) == 5
    with pytest.raises(LibraryError, match="library migrate --alone"):
        add(copy, [*pictures, *write_pictures(tmp_path / "more", [50])], [encoder])
    with pytest.raises(LibraryError, match="--alone"):
        migrate(address)
    assert migrate(address, alone=True).done == ("writers take turns",)
    assert len(add(Library.open(address), write_pictures(tmp_path / "more", [50]), [encoder]).added) == 1
    local = Library.open(library.uri)
    assert TURN in local._table.schema.names
    local.remove(["picture-1"])
    assert add(local, pictures, [encoder]).added == ["picture-1"]
