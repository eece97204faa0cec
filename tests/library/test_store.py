"""What a library promises: nothing lost, nothing mixed up, and a clear word when it cannot be used."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lancedb
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from library_doubles import TinyEncoder, picture, write_pictures
from PIL import Image

from steerclear.errors import InputError, LibraryError
from steerclear.library import Library, add, compaction, verify
from steerclear.library.images import square_tensor
from steerclear.pixels import to_tensor


def test_an_empty_library_has_no_items_and_empty_tensors(tmp_path, encoder):
    library = Library.create(tmp_path / "library", [encoder])
    assert (len(library), library.items(), library.read_note("calibration")) == (0, [], None)
    assert library.vectors("tiny")[1].shape == (0, 48)
    assert library.thumbnails()[1].shape == (0, 3, 64, 64)


def test_what_was_added_is_there_after_reopening(library, pictures):
    again = Library.open(library.uri)
    assert [i.id for i in again.items()] == [p.stem for p in pictures]
    item = again.get("picture-3")
    assert (item.owner, item.policy, item.source, item.tags) == ("Acme", "steer", str(pictures[3]), ())
    assert item.added.utcoffset().total_seconds() == 0
    assert again.fingerprint() == library.fingerprint()


def test_vectors_are_unit_length_and_in_the_order_of_the_items(library, encoder):
    ids, vectors = library.vectors("tiny")
    assert ids == [i.id for i in library.items()]
    assert vectors.dtype == torch.float32
    expected = torch.cat([encoder(square_tensor(picture(s), 32)[None]) for s in range(5)])
    assert torch.allclose(vectors, expected, atol=1e-6)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5))


def test_the_thumbnail_of_a_picture_of_its_size_is_lossless(tmp_path, encoder):
    picture(1, size=64).save(tmp_path / "a.png")
    library = Library.create(tmp_path / "library", [encoder])
    add(library, tmp_path / "a.png", [encoder])
    assert torch.equal(library.thumbnails()[1], to_tensor([picture(1, size=64)]))


def test_several_encoders_each_have_their_vectors(tmp_path, pictures):
    encoders = [TinyEncoder(), TinyEncoder("clip-vit/b.32", size=16, dim=12)]
    library = Library.create(tmp_path / "library", encoders)
    add(library, pictures, encoders)
    assert library.vectors("tiny")[1].shape == (5, 48)
    assert library.vectors("clip-vit/b.32")[1].shape == (5, 12)
    with pytest.raises(LibraryError, match=r"also needs encoder 'clip-vit/b\.32'"):
        add(library, pictures, encoders[:1])


def test_an_unknown_encoder_is_refused_by_name(library):
    with pytest.raises(LibraryError, match=r"built with encoder 'tiny' \(48-d.*not 'sscd'"):
        library.vectors("sscd")


@pytest.mark.parametrize("other", [TinyEncoder(fingerprint="tiny-2"), TinyEncoder(dim=24)])
def test_an_encoder_with_other_weights_or_width_is_refused_and_both_are_named(library, other):
    for use in (library.check_encoder, lambda e: Library.open_or_create(library.uri, [e])):
        with pytest.raises(LibraryError, match=r"tiny-1") as caught:
            use(other)
        assert f"({other.dim}-d, fingerprint {other.fingerprint})" in str(caught.value)


def test_what_is_known_of_an_item_can_be_changed_and_the_rest_stays(library):
    before = library.get("picture-3")
    changed = library.change("picture-3", policy="withhold", tags=["a", "b"], note='it\'s "seen"')
    assert changed == library.get("picture-3")
    assert (changed.policy, changed.tags, changed.note) == ("withhold", ("a", "b"), 'it\'s "seen"')
    assert (changed.owner, changed.sha256, changed.added) == (before.owner, before.sha256, before.added)
    assert library.ids("withhold") == ["picture-3"]


@pytest.mark.parametrize(
    ("item", "columns"), [("picture-3", {"sha256": "0"}), ("picture-3", {"policy": "laugh"}), ("none", {})]
)
def test_what_cannot_be_changed_is_named_and_nothing_changes(library, item, columns):
    before = library.version
    with pytest.raises((InputError, LibraryError), match=f"{item}|sha256|laugh"):
        library.change(item, **columns)
    assert library.version == before


def test_an_items_thumbnail_is_a_file_of_its_own(library):
    file = library.thumbnail_file("picture-3")
    with Image.open(io.BytesIO(file)) as opened:
        assert (opened.format, opened.size) == ("PNG", (64, 64))
    with pytest.raises(LibraryError, match="'none'"):
        library.thumbnail_file("none")


def test_removing_an_unknown_id_names_it_and_removes_nothing(library):
    with pytest.raises(LibraryError, match=r"'nope'.*nothing was removed"):
        library.remove(["picture-0", "nope"])
    assert len(library) == 5


def test_an_id_with_quotes_can_be_found_and_removed(tmp_path, encoder):
    picture(1).save(tmp_path / 'it\'s "one".png')
    library = Library.create(tmp_path / "library", [encoder])
    add(library, tmp_path / 'it\'s "one".png', [encoder])
    assert library.get('it\'s "one"').phash
    assert library.remove(['it\'s "one"']) == 1
    with pytest.raises(LibraryError, match="no item"):
        library.get('it\'s "one"')


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seeds=st.sets(st.integers(100, 130), min_size=1, max_size=4))
def test_adding_and_then_removing_restores_the_library(library, encoder, tmp_path, seeds):
    before, items = library.fingerprint(), library.items()
    report = add(library, write_pictures(tmp_path / "more", seeds), [encoder])
    assert len(report.added) == len(seeds)
    assert library.fingerprint() != before
    assert library.remove(report.added) == len(seeds)
    assert (library.fingerprint(), library.items()) == (before, items)


def test_an_earlier_version_can_be_restored_and_that_be_undone(library):
    full = library.version
    library.remove(["picture-1", "picture-2"])
    emptier = library.version
    assert [(v.version, v.items) for v in library.log()][-2:] == [(full, 5), (emptier, 3)]
    library.restore(full)
    assert len(library) == 5
    library.restore(emptier)
    assert len(library) == 3
    with pytest.raises(LibraryError, match="no version 99"):
        library.restore(99)


def test_files_are_merged_after_many_commits_and_all_of_them_can_be_restored(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(compaction, "MANY_FRAGMENTS", 4)
    library = Library.create(tmp_path / "library", [encoder])
    paths = write_pictures(tmp_path / "art", range(8))
    add(library, paths, [encoder], batch=1)
    assert library.version > 9  # eight commits and the compaction
    assert [i.source for i in library.items()] == list(map(str, paths))
    assert verify(library, sources=True) == []
    library.restore(4)
    assert len(library) == 3


def test_notes_are_replaced_and_survive_a_restore(library):
    library.write_note("calibration", {"threshold": 0.5})
    library.write_note("other", {})
    library.write_note("calibration", {"threshold": 0.62, "evidence": [1, 2]})
    library.restore(1)
    assert Library.open(library.uri).read_note("calibration") == {"threshold": 0.62, "evidence": [1, 2]}
    with pytest.raises(ValueError, match="JSON"):
        library.write_note("calibration", {"threshold": float("nan")})


def test_an_address_that_is_no_folder_works_without_the_lock(tmp_path, encoder, pictures):
    address = f"{tmp_path.as_uri()}/far"
    with pytest.raises(LibraryError, match="not found"):
        Library.open(address)
    library = Library.open_or_create(address, [encoder])
    assert len(add(library, pictures, [encoder], batch=2).added) == 5
    library.write_note("calibration", {"a": 1})
    again = Library.open_or_create(address, [encoder])
    assert (again.remove(["picture-0"]), len(library), library.read_note("calibration")) == (1, 4, {"a": 1})
    with pytest.raises(LibraryError, match="already"):
        Library.create(address, [encoder])


def test_a_missing_library_says_so_and_leaves_no_folder_behind(tmp_path):
    with pytest.raises(LibraryError, match="there is no library"):
        Library.open(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path, encoder):
    (tmp_path / "holiday.txt").write_text("sun")
    for use in (
        Library.open,
        lambda u: Library.create(u, [encoder]),
        lambda u: Library.open_or_create(u, [encoder]),
    ):
        with pytest.raises(LibraryError, match="is no library"):
            use(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.txt"]


def test_a_lance_table_of_someone_else_is_refused(tmp_path, encoder):
    lancedb.connect(str(tmp_path)).create_table("items", [{"id": "a"}])
    for use in (Library.open, lambda u: Library.open_or_create(u, [encoder])):
        with pytest.raises(LibraryError, match="did not make"):
            use(tmp_path)


def test_a_library_is_never_created_over_another(library, encoder):
    with pytest.raises(LibraryError, match="already"):
        Library.create(library.uri, [encoder])


def _cut(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.truncate(10)


@pytest.mark.parametrize("damage", ["manifests cut", "manifests gone", "rows cut", "rows gone"])
def test_a_damaged_library_is_never_read_as_empty_nor_replaced(library, encoder, damage):
    what, how = damage.split()
    for path in list(
        Path(library.uri, "items.lance").rglob("*.manifest" if what == "manifests" else "*.lance")
    ):
        _cut(path) if how == "cut" else path.unlink()
    for use in (
        lambda: Library.open(library.uri).vectors("tiny"),
        lambda: Library.open(library.uri).items(),
        lambda: Library.open_or_create(library.uri, [encoder]).thumbnails(),
    ):
        with pytest.raises(LibraryError, match="damaged"):
            use()


def test_a_creation_that_died_halfway_can_be_repeated(tmp_path, encoder):
    Library.create(tmp_path / "library", [encoder])
    shutil.rmtree(tmp_path / "library" / "items.lance" / "_versions")
    assert len(Library.open_or_create(tmp_path / "library", [encoder])) == 0


READ_ONLY = """
import os, sys, filelock
from steerclear.errors import LibraryError
from steerclear.library import Library, verify
verify(Library.open(sys.argv[1]))  # loads all that root's Python would not be allowed to load later
Library.open(sys.argv[1]).thumbnails()
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
library = Library.open(sys.argv[1])
assert len(library) == len(library.items()) == 5
assert len(library.vectors("tiny")[1]) == len(library.thumbnails()[0]) == 5
assert library.read_note("calibration") == {"a": 1} and not verify(library)
for change in (lambda: library.remove(["picture-1"]), lambda: library.write_note("x", {})):
    try:
        change()
    except LibraryError as error:
        assert "read-only" in str(error), error
    else:
        raise SystemExit("a read-only library was changed")
print("fine")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work otherwise there")
def test_a_read_only_library_can_be_read_and_says_that_it_cannot_be_changed(library):
    library.write_note("calibration", {"a": 1})
    folder = Path(library.uri)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for parent in folder.parents:  # pytest keeps its folders to the user; "nobody" must get through
        mode = parent.stat().st_mode
        if mode & 0o055 != 0o055:
            parent.chmod(mode | 0o055)
    before = sorted(folder.rglob("*"))
    env = os.environ | {"OMP_NUM_THREADS": "1", "HOME": "/tmp"}
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(folder)], env=env, capture_output=True, text=True
    )
    folder.chmod(0o755)
    assert done.stdout == "fine\n", done.stderr
    assert sorted(folder.rglob("*")) == before


def test_a_flipped_vector_is_noticed(library):
    table = lancedb.connect(library.uri).open_table("items")
    table.update(where="id = 'picture-2'", values={"vector_tiny": [0.0] * 48})
    with pytest.raises(LibraryError, match="unit length"):
        library.vectors("tiny")
    assert [p.id for p in verify(library)] == ["picture-2"]


def test_importing_the_library_loads_neither_torch_nor_lancedb():
    heavy = {"torch", "lancedb", "pyarrow", "numpy"}
    code = f"import sys, steerclear.library; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
