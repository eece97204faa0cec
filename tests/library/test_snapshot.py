"""The rows beside a library: they save LanceDB's import, and never say anything that LanceDB would not."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch
from library_doubles import write_pictures

from steerclear.embedded import LIBRARY_FOLDER
from steerclear.errors import LibraryError
from steerclear.library import Library, add, snapshot
from steerclear.library.table import local_folder

WITHOUT_LANCE = f"""
import sys
from steerclear.library import Library
library = Library.open({str(LIBRARY_FOLDER)!r})
assert len(library) == len(library.items()) == len(library.pictures()) > 0
assert library.read_note("calibration")["thresholds"]
assert library.version > 1
assert "lancedb" not in sys.modules
"""


@pytest.fixture
def taken(library):
    """The library of five pictures, a note in it, with a snapshot."""
    library.write_note("calibration", {"threshold": 0.5})
    library.write_snapshot()
    return library


def answers(library):
    """All that a guard reads."""
    name = library.encoders[0].name
    ids, vectors = library.vectors(name)
    thumbnail_ids, thumbnails = library.thumbnails(ids[1:3])
    return (
        len(library),
        library.items(),
        [library.get(item) for item in ids],
        library.ids(),
        library.ids("withhold"),
        library.encoders,
        ids,
        vectors.tolist(),
        thumbnail_ids,
        thumbnails.tolist(),
        library.hashes_of(ids[:2]),
        library.hashes_of([]),
        library.fingerprint(),
        library.export().to_pylist(),
        library.read_note("calibration"),
        library.read_note("none"),
        library.version,
    )


def test_the_library_inside_the_package_opens_without_lancedb():
    subprocess.run([sys.executable, "-c", WITHOUT_LANCE], check=True)


def test_the_shipped_snapshot_says_what_lancedb_says(tmp_path):
    assert snapshot.read(str(LIBRARY_FOLDER)) is not None
    copy = tmp_path / "library"
    shutil.copytree(LIBRARY_FOLDER, copy, ignore=shutil.ignore_patterns(snapshot.FILE))
    assert answers(Library.open(LIBRARY_FOLDER)) == answers(Library.open(copy))


def test_with_and_without_a_snapshot_a_library_answers_alike(taken):
    with_it = answers(Library.open(taken.uri))
    assert snapshot.read(taken.uri) is not None
    (local_folder(taken.uri) / snapshot.FILE).unlink()
    assert answers(Library.open(taken.uri)) == with_it


@pytest.mark.parametrize(
    "change",
    [
        lambda library: library.remove([library.ids()[0]]),
        lambda library: library.write_note("calibration", {"threshold": 0.9}),
        lambda library: library.restore(library.version - 1),
    ],
    ids=["remove", "note", "restore"],
)
def test_after_any_change_a_snapshot_is_not_looked_at(taken, change):
    other = Library.open(taken.uri)
    assert snapshot.read(taken.uri) is not None
    change(taken)
    assert snapshot.read(taken.uri) is None
    assert answers(other) == answers(taken)


def test_a_picture_added_beside_a_snapshot_is_protected_at_once(taken, tmp_path, encoder):
    open_before = Library.open(taken.uri)
    add(Library.open(taken.uri), write_pictures(tmp_path / "more", range(7, 8)), [encoder])
    assert len(open_before) == 6
    assert len(open_before.index(encoder.name)) == 6


def test_a_damaged_library_is_reported_though_its_snapshot_is_whole(taken):
    folder = local_folder(taken.uri)
    for file in (folder / "items.lance" / "data").iterdir():
        file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(LibraryError, match="damaged"):
        Library.open(taken.uri).items()


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"\0" * 5000])
def test_a_damaged_snapshot_is_not_looked_at(taken, content):
    want = answers(taken)
    (local_folder(taken.uri) / snapshot.FILE).write_bytes(content)
    assert snapshot.read(taken.uri) is None
    assert answers(Library.open(taken.uri)) == want


def test_vectors_from_a_snapshot_may_be_written_to(taken):
    vectors = Library.open(taken.uri).vectors(taken.encoders[0].name)[1]
    vectors += torch.zeros_like(vectors)
    assert vectors.is_contiguous()
