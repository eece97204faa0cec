"""A library keeps no more than it should: compaction, purge, and what a reader sees meanwhile."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from library_doubles import picture, write_pictures

from steerclear.errors import LibraryError
from steerclear.library import Library, add, compaction, notes, snapshot, verify
from steerclear.library import purge as purge_module
from steerclear.library.compaction import oldest_kept
from steerclear.library.latents import LatentCache
from steerclear.library.rollout import set_share, shares
from steerclear.library.schema import Version


def searched(library, content):
    """The files of a library's folder that hold some bytes."""
    files = [path for path in Path(library.uri).rglob("*") if path.is_file()]
    return [path for path in files if content in path.read_bytes()]


def stored(library, item_id):
    """What a library stores of an item: hash, thumbnail, vector, as bytes."""
    rows = library.export().to_pylist()
    row = next(row for row in rows if row["id"] == item_id)
    return row["sha256"].encode(), row["thumbnail"], np.float32(row["vector_tiny"]).tobytes()


def test_many_small_additions_leave_few_versions_and_little_more_than_one_addition(
    tmp_path, encoder, monkeypatch
):
    monkeypatch.setattr(compaction, "MANY_FRAGMENTS", 8)
    monkeypatch.setattr(compaction, "KEPT_VERSIONS", 4)
    monkeypatch.setattr(compaction, "MARGIN", timedelta(0))
    paths = write_pictures(tmp_path / "art", range(40))
    at_once, singly = (Library.plan(tmp_path / name, [encoder]) for name in ("at once", "singly"))
    add(at_once, paths, [encoder])
    for path in paths:
        add(singly, [path], [encoder])
    assert [i.source for i in singly.items()] == list(map(str, paths))
    assert verify(singly, sources=True) == []
    assert len(singly.log()) <= 8 + 4 + 2
    sizes = [compaction.folder_size(Path(library.uri)) for library in (at_once, singly)]
    assert sizes[1] < 4 * sizes[0]
    before = singly.log()[-2]
    singly.restore(before.version)
    assert len(singly) == before.items


def versions(*items, age=timedelta(0)):
    """Versions 1, 2, … with so many items each."""
    return [Version(i + 1, datetime.now(UTC) - age, count) for i, count in enumerate(items)]


def test_an_addition_keeps_the_states_before_it_and_those_before_a_recent_removal():
    growing = versions(*range(100))
    assert oldest_kept(growing, since=90).version == 91 - compaction.KEPT_VERSIONS
    assert oldest_kept(growing, since=3).version == 1
    shrinking = versions(5, 6, 2, *range(3, 100))
    assert oldest_kept(shrinking, since=90).version == 2
    long_ago = versions(5, 6, 2, *range(3, 100), age=timedelta(days=compaction.PROTECTED_DAYS + 1))
    assert oldest_kept(long_ago, since=90).version == 91 - compaction.KEPT_VERSIONS


def test_compacting_keeps_the_newest_versions_and_the_young_ones(library, encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "MARGIN", timedelta(seconds=0.3))
    *paths, last = write_pictures(tmp_path / "more", range(10, 16))
    for path in paths:
        add(library, [path], [encoder])
    assert library.compact(days=1).versions >= 8
    time.sleep(0.7)  # versions that are closer to the oldest one that stays than MARGIN stay as well
    library.remove(["picture-1"])
    time.sleep(0.7)
    library.restore(library.log()[-2].version)
    add(library, [last], [encoder])
    items = library.items()
    removal = library.log()[-3].version
    done = library.compact(versions=3)
    assert (library.log()[0].version, done.versions, library.items()) == (removal, len(library.log()), items)
    assert done.bytes < done.bytes_before
    library.restore(removal)
    assert "picture-1" not in library.ids()
    library.compact(versions=1)
    with pytest.raises(LibraryError, match="no version 2"):
        library.restore(2)
    for wrong in ({"versions": 0}, {"days": -1}):
        with pytest.raises(LibraryError, match="keep at least"):
            library.compact(**wrong)


def test_what_reads_while_versions_are_dropped_reads_on(library, encoder, tmp_path):
    paths = write_pictures(tmp_path / "more", range(20, 26))
    reader, stop, failures = Library.open(library.uri), threading.Event(), []

    def read():
        while not stop.is_set():
            try:
                assert len(reader.vectors("tiny")[0]) == len(reader.items()) or reader.version
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for path in paths:
        add(library, [path], [encoder])
        library.compact(versions=1)
    library.purge(["picture-20"], why="test")
    stop.set()
    thread.join()
    assert failures == []
    assert "picture-20" not in reader.ids()


@pytest.mark.parametrize("removed_before", [False, True])
def test_of_a_purged_picture_no_byte_is_left_in_any_file(library, removed_before, encoder, tmp_path):
    add(library, write_pictures(tmp_path / "more", [7]), [encoder])
    LatentCache(library, "vae").write({"picture-2": torch.arange(8.0), "picture-3": torch.ones(8)})
    library.write_snapshot()
    contents = stored(library, "picture-2")
    assert all(searched(library, content) for content in contents)  # else the search would prove nothing
    assert searched(library, torch.arange(8.0).numpy().tobytes())
    others = [item for item in library.items() if item.id != "picture-2"]
    if removed_before:
        library.remove(["picture-2"])
        assert all(searched(library, content) for content in contents)
    done = library.purge(["picture-2"], why="licence ended", who="Ada")
    assert (done.items, done.searched_files > 3) == (1, True)
    assert not any(searched(library, content) for content in contents)
    assert not searched(library, torch.arange(8.0).numpy().tobytes())
    assert not searched(library, b"picture-2")
    assert list(LatentCache(library, "vae").read(library.ids(), (8,))) == ["picture-3"]
    assert Library.open(library.uri).items() == others
    assert [state.version for state in library.log()] == [library.version]
    assert verify(library, sources=True) == []
    (entry,) = library.purges()
    assert (entry.who, entry.why, entry.items, entry.finished) == ("Ada", "licence ended", 1, True)
    assert abs(datetime.fromisoformat(entry.when) - datetime.now(UTC)) < timedelta(minutes=5)


def test_all_items_can_be_purged_and_new_ones_be_added(library, pictures, encoder):
    library.purge(library.ids(), why="all of it")
    assert (len(library), len(library.log())) == (0, 1)
    assert len(add(library, pictures, [encoder]).added) == 5


def test_an_id_that_is_in_no_version_stops_a_purge(library):
    before = library.log()
    with pytest.raises(LibraryError, match=r"'nobody'.*nothing was purged"):
        library.purge(["picture-1", "nobody"], why="test")
    with pytest.raises(LibraryError, match="reason"):
        library.purge(["picture-1"], why=" ")
    assert (library.log(), library.purges()) == (before, [])


def test_a_purge_that_left_a_byte_says_where(library):
    sha256 = stored(library, "picture-1")[0]
    Path(library.uri, "copy-of-somebody").write_bytes(b"x" + sha256 + b"y")
    with pytest.raises(LibraryError, match=r"sha256 of 'picture-1' is still in .*copy-of-somebody"):
        library.purge(["picture-1"], why="test")
    assert [entry.finished for entry in library.purges()] == [False]


def test_a_purge_that_was_interrupted_goes_on(library, monkeypatch):
    monkeypatch.setattr(purge_module, "drop_versions", lambda *_, **__: os.kill(os.getpid(), 2))
    with pytest.raises(KeyboardInterrupt):
        library.purge(["picture-1"], why="test")
    monkeypatch.undo()
    assert [entry.finished for entry in library.purges()] == [False]
    library.purge(["picture-1"], why="test")
    assert [entry.finished for entry in library.purges()] == [True]
    assert len(library) == 4


def test_another_file_of_the_same_pixels_stays_when_one_is_purged(tmp_path, encoder):
    picture(1, size=64).save(tmp_path / "a.png")
    picture(1, size=64).save(tmp_path / "b.bmp")
    library = Library.plan(tmp_path / "library", [encoder])
    add(library, [tmp_path / "a.png", tmp_path / "b.bmp"], [encoder])
    thumbnail = stored(library, "a")[1]
    library.purge(["a"], why="test")
    assert library.ids() == ["b"]
    assert searched(library, thumbnail)


def test_files_of_killed_processes_go_with_a_purge(library):
    data = Path(library.uri, "items.lance", "data")
    orphan = data / "1101110011100101100110104e53854d0bb9ecbd8f80e91c12.lance"
    orphan.write_bytes(b"what was never committed" + stored(library, "picture-1")[1])
    library.purge(["picture-1"], why="test")
    assert not orphan.exists()
    assert snapshot.read(library.uri) is None


@pytest.mark.parametrize(
    ("step", "after"), [("_keep_pending", 0), ("_rewrite", 0), ("_rewrite", 1), ("_check_gone", 0)]
)
def test_a_purge_that_was_killed_at_any_step_is_finished_by_the_same_command(
    library, monkeypatch, step, after
):
    digest = stored(library, "picture-1")[0]
    calls, real = iter(range(after)), getattr(purge_module, step)

    def dies(*args, **kwargs):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(purge_module, step, dies)
    with pytest.raises(KeyboardInterrupt):
        library.purge(["picture-1"], why="test")
    monkeypatch.undo()
    assert [entry.finished for entry in library.purges()] == [False]
    assert library.purge(["picture-1"], why="test").searched_files
    assert [entry.finished for entry in library.purges()] == [True]
    assert len(library) == 4
    assert not searched(library, digest)
    assert not Path(library.uri, purge_module.PENDING).exists()


def test_a_purge_that_died_before_it_said_that_it_was_finished_is_finished(library, monkeypatch):
    put = notes.put
    monkeypatch.setattr(
        purge_module.notes, "put", lambda *a: put(*a) if not a[2]["purges"][-1]["finished"] else 1 / 0
    )
    with pytest.raises(LibraryError, match="division"):
        library.purge(["picture-1"], why="test")
    monkeypatch.undo()
    library.purge(["picture-1"], why="test")
    assert [entry.finished for entry in library.purges()] == [True]
    with pytest.raises(LibraryError, match="in any version"):
        library.purge(["picture-1"], why="test")


def test_nothing_of_an_items_share_is_left_after_its_purge(library):
    set_share(library, item="picture-1", percent=50, why="because of its secret reason")
    set_share(library, item="picture-2", percent=50, why="another")
    library.purge(["picture-1"], why="test")
    assert not searched(library, b"picture-1")
    assert not searched(library, b"secret reason")
    assert [share.item for share in shares(library)] == ["picture-2"]
