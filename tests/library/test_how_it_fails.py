"""What goes wrong around a library that is whole: it is said as what it is, and nothing is left half done."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import lancedb
import pytest
from library_doubles import TinyEncoder, write_pictures

from steerclear.errors import LibraryError
from steerclear.library import Library, add, failures, verify
from steerclear.library.table import LOCK, write_lock

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")


def run(code, *arguments, **options):
    """Run Python with the doubles at hand."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def no_room(request):
    """Call it with a number of bytes: no file can grow beyond it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@posix
def test_without_room_the_library_stays_as_it_was_and_the_same_call_finishes_later(
    library, encoder, tmp_path, no_room
):
    more = write_pictures(tmp_path / "more", range(10, 30))
    before = library.items()
    no_room(20_000)
    with pytest.raises(LibraryError, match=r"no room .*committed before is safe: make room") as caught:
        add(library, more, [encoder])
    assert "damaged" not in str(caught.value)
    no_room(resource.RLIM_INFINITY)
    assert Library.open(library.uri).items() == before
    assert verify(library) == []
    assert len(add(library, more, [encoder]).added) == 20


@posix
def test_without_room_no_new_library_is_begun(tmp_path, encoder, pictures, no_room):
    uri = tmp_path / "new" / "library"
    no_room(1000)
    with pytest.raises(LibraryError, match="no room"):
        add(Library.open_or_plan(uri, [encoder]), pictures, [encoder])
    no_room(resource.RLIM_INFINITY)
    assert not uri.exists()
    assert len(add(Library.open_or_plan(uri, [encoder]), pictures, [encoder]).added) == 5


@pytest.mark.parametrize(
    "name", ["tab\there", "new\nline", "x" * 300, "nul\0", "sur\udcff", "space here", "per%20cent", "ha#sh"]
)
def test_a_path_that_never_held_a_library_is_not_called_damaged(tmp_path, encoder, pictures, name):
    uri = f"{tmp_path}/{name}"
    with pytest.raises(LibraryError, match=r"there is no library at|cannot be the folder of a library"):
        Library.open(uri)
    said = []
    try:
        add(Library.open_or_plan(uri, [encoder]), pictures, [encoder])
    except LibraryError as error:
        said.append(str(error))
    if said:
        assert "choose another" in said[0]
        assert [path.name for path in tmp_path.iterdir()] == ["art"]
    else:
        assert len(Library.open(uri)) == 5


AS_NOBODY = """
import os, sys
from types import SimpleNamespace
from steerclear.errors import LibraryError
from steerclear.library import Library
encoder = SimpleNamespace(name="tiny", dim=48, fingerprint="tiny-1")
whole, closed, forbidden = sys.argv[1], sys.argv[2], sys.argv[3:]
Library.open(whole).items()  # loads all that root's Python would not be allowed to load later
import filelock
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
def attempt(use, *arguments):
    try:
        print("opened", len(use(*arguments).items()))
    except LibraryError as error:
        print(error)
for folder in forbidden:
    attempt(Library.open, folder)
    attempt(Library.open_or_plan, folder, [encoder])
attempt(Library.open, closed)
attempt(Library.open_or_plan, closed, [encoder])
"""


@posix
def test_without_permission_a_library_is_neither_damaged_nor_missing(library, tmp_path):
    whole = Path(library.uri)
    closed = {"folder": ".", "rows": "items.lance/data", "parent": ".."}
    for name, what in closed.items():
        shutil.copytree(whole, tmp_path / name / "library")
        (tmp_path / name / "library" / what).chmod(0o000)
    (tmp_path / "read-only").mkdir(mode=0o555)
    for parent in whole.parents:  # pytest keeps its folders to the user; "nobody" must get through
        if (mode := parent.stat().st_mode) & 0o055 != 0o055:
            parent.chmod(mode | 0o055)
    libraries = [tmp_path / name / "library" for name in closed]
    try:
        done = run(AS_NOBODY, whole, tmp_path / "read-only" / "library", *libraries)
    finally:
        for name, what in closed.items():
            (tmp_path / name / "library" / what).chmod(0o755)
    *forbidden, missing, not_made = done.stdout.splitlines()
    assert len(forbidden) == 6, done.stderr
    assert all("permission" in line for line in forbidden), forbidden
    assert not any("damaged" in line or "create" in line for line in forbidden)
    assert "there is no library" in missing
    assert "may not be written to; choose another folder" in not_made
    assert [len(Library.open(folder)) for folder in libraries] == [5, 5, 5]


def test_a_locked_library_says_that_another_process_writes(library, monkeypatch):
    with filelock.FileLock(Path(library.uri) / LOCK):
        with (
            pytest.raises(LibraryError, match="another process has been writing"),
            write_lock(library.uri, 0.1),
        ):
            pass
        assert len(library.items()) == 5  # reading waits for nobody


def test_a_library_that_was_deleted_while_it_was_open_is_said_to_be_gone(library, encoder, pictures):
    shutil.rmtree(library.uri)
    with pytest.raises(LibraryError, match="there is no library at"):
        library.remove(["picture-1"])
    assert not Path(library.uri).exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(24, "Too many open files"), "cannot be reached now: Too many open files"),
        (RuntimeError("LanceError(IO): Stale file handle (os error 116)"), "cannot be reached now"),
        (RuntimeError("something that nobody has seen yet"), "cannot be used: something that nobody"),
        (RuntimeError("Retryable commit conflict for version 7"), "others kept writing"),
        (RuntimeError("Not found: a.lance, /root/x.rs:1:2"), r"damaged: Not found: a\.lance;"),
    ],
)
def test_only_a_file_that_is_not_what_was_written_is_called_damage(library, error, expected):
    with pytest.raises(LibraryError, match=expected), failures.lance_errors(library.uri):
        raise error


def test_a_store_that_does_not_answer_is_not_called_damaged(monkeypatch):
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OBJECT_STORE_CLIENT_MAX_RETRIES", "0")
    monkeypatch.setenv("OBJECT_STORE_CLIENT_RETRY_TIMEOUT", "1")
    with pytest.raises(LibraryError, match="cannot be reached"):
        Library.open("s3://bucket/library")


FORK = """
import os, sys, warnings
from steerclear.library import Library
from steerclear.errors import LibraryError
warnings.simplefilter("ignore")
opened = Library.open(sys.argv[1])
assert len(opened) == 5
children = []
for use in (lambda: len(opened), lambda: opened.items(), lambda: Library.open(sys.argv[1]).items(),
            lambda: opened.remove(["picture-0"]), lambda: opened.write_note("a", {})):
    if child := os.fork():
        children.append(child)
        continue
    try:
        use()
        code = 1
    except LibraryError as error:
        code = 42 if "forked" in str(error) and "spawn" in str(error) else 2
    os._exit(code)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], len(opened))
"""

FORK_FIRST = """
import os, sys
from steerclear.library import Library
children = [os.fork() for _ in range(1)]
if 0 in children:
    os._exit(len(Library.open(sys.argv[1])))
print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_a_forked_child_is_refused_the_library_and_the_parent_goes_on(library):
    done = run(FORK, library.uri)
    assert done.stdout == "[42, 42, 42, 42, 42] 5\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork there")
def test_a_child_that_was_forked_before_any_library_was_opened_may_open_one(library):
    assert run(FORK_FIRST, library.uri).stdout == "5\n"


FIRST = """
import os, signal, sys
from library_doubles import TinyEncoder
from steerclear.library import Library, add, creation
stop = {"kill": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
        "interrupt": lambda *_: signal.raise_signal(signal.SIGINT)}[sys.argv[3]]
if sys.argv[4] == "embedding":
    class Encoder(TinyEncoder):
        def __call__(self, images):
            stop()
else:  # when all of the table is written, and only its place is missing
    Encoder = TinyEncoder
    creation.Path.rename = stop
add(Library.open_or_plan(sys.argv[1], [Encoder()]), sys.argv[2], [Encoder()], workers=1)
"""


@posix
@pytest.mark.parametrize(("how", "when"), [("interrupt", "embedding"), ("kill", "committing")])
def test_what_stops_before_the_first_commit_leaves_no_library(tmp_path, encoder, how, when):
    paths = write_pictures(tmp_path / "art", range(3))
    uri = tmp_path / "library"
    done = run(FIRST, uri, tmp_path / "art", how, when)
    assert done.returncode == (-signal.SIGKILL if how == "kill" else -signal.SIGINT), done.stderr
    with pytest.raises(LibraryError, match="create one with"):
        Library.open(uri)
    assert uri.exists() == (how == "kill")
    library = Library.open_or_plan(uri, [encoder])
    assert (len(library), library.items(), library.version, library.planned) == (0, [], 0, True)
    assert len(add(library, paths, [encoder]).added) == 3
    assert not library.planned
    assert sorted(path.name for path in uri.iterdir()) == [".write.lock", "items.lance"]


def test_a_planned_library_that_another_process_made_first_is_joined(tmp_path, encoder, pictures):
    first, second = (Library.open_or_plan(tmp_path / "library", [encoder]) for _ in range(2))
    add(first, pictures[:3], [encoder])
    report = add(second, pictures, [encoder])
    assert (len(report.added), len(report.skipped_duplicates)) == (2, 3)
    other = TinyEncoder(fingerprint="tiny-2")
    with pytest.raises(LibraryError, match="tiny-1"):
        Library.open_or_plan(tmp_path / "library", [other])


def test_a_file_of_the_library_that_is_somebody_elses_is_still_refused(tmp_path, encoder):
    lancedb.connect(str(tmp_path / "library")).create_table("items", [{"id": "a"}])
    with pytest.raises(LibraryError, match="did not make"):
        Library.open_or_plan(tmp_path / "library", [encoder])
