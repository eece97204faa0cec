"""Real processes: a killed one loses nothing that it acknowledged, and two writers and a reader get along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from library_doubles import TinyEncoder, write_pictures

from steerclear.library import Library, add, verify

ADD = """
import sys
from library_doubles import TinyEncoder
from steerclear.library import Library, add
library = Library.open_or_create(sys.argv[1], [TinyEncoder()])
report = add(library, sys.argv[2:], [TinyEncoder()], batch=2, workers=1,
             on_progress=lambda p: print(p.added, flush=True))
assert not report.failed, report.failed
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL there")
def test_after_kill_9_everything_acknowledged_is_there_and_the_same_call_finishes(tmp_path):
    paths, uri = write_pictures(tmp_path / "art", range(60)), tmp_path / "library"
    adding = _start(ADD, uri, tmp_path / "art")
    acknowledged = [adding.stdout.readline() for _ in range(3)][-1]
    adding.send_signal(signal.SIGKILL)
    rest, _ = adding.communicate()
    acknowledged = int((acknowledged + rest).split()[-1])

    library, encoder = Library.open(uri), TinyEncoder()
    assert 6 <= acknowledged <= len(library) < 60
    assert {i.id for i in library.items()} >= {p.stem for p in sorted(paths)[:acknowledged]}
    assert verify(library) == []
    survived = len(library)
    report = add(library, tmp_path / "art", [encoder])
    assert (len(report.added), len(report.skipped_duplicates)) == (60 - survived, survived)
    assert {i.source for i in library.items()} == set(map(str, paths))
    assert verify(library, sources=True) == []


def test_two_processes_add_while_a_third_reads_and_nothing_is_lost_or_doubled(tmp_path):
    encoder, uri = TinyEncoder(), tmp_path / "library"
    shared = write_pictures(tmp_path / "shared", range(12))
    first, second = tmp_path / "first", tmp_path / "second"
    # the same names for different pictures: both processes want the same ids
    for folder, offset in ((first, 100), (second, 200)):
        for path, name in zip(write_pictures(folder, range(offset, offset + 8)), "abcdefgh", strict=True):
            path.rename(folder / f"{name}.png")
    writers = [_start(ADD, uri, tmp_path / "shared", folder) for folder in (first, second)]
    seen = [0]
    while any(w.poll() is None for w in writers):
        if uri.exists() and (uri / "items.lance" / "data").exists():
            ids, vectors = Library.open(uri).vectors(encoder.name)
            assert len(ids) == len(set(ids)) == len(vectors) >= seen[-1]
            seen.append(len(ids))
        try:
            writers[0].wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    for writer in writers:
        _, complaint = writer.communicate()
        assert writer.returncode == 0, complaint
    library = Library.open(uri)
    items = library.items()
    assert len(items) == 28
    assert {Path(i.source).name for i in items} == {p.name for p in (*shared, *first.iterdir())}
    assert {"a", "b", "h"} < {i.id for i in items}
    assert verify(library, sources=True) == []


def test_a_library_that_is_open_sees_what_another_handle_adds_and_removes(library, encoder, tmp_path):
    other = Library.open(library.uri)
    add(other, write_pictures(tmp_path / "more", [77]), [encoder])
    assert (len(library), library.version) == (6, other.version)
    library.remove(["picture-77"])
    assert "picture-77" not in other.vectors("tiny")[0]
    assert add(other, tmp_path / "more", [encoder]).added == ["picture-77"]


def _crash_loop(folder: Path, rounds: int, seed: int) -> dict[str, object]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    script = Path(__file__).with_name("crash_loop.py")
    command = [sys.executable, "-W", "ignore", str(script), str(folder), str(rounds), str(seed)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_after_200_kills_at_random_moments_nothing_acknowledged_is_missing(tmp_path):
    result = _crash_loop(tmp_path, 200, seed=0)
    assert sum(result["killed"].values()) > 100
    assert len(result["killed"]) == 6
