"""The same library on object storage, over HTTP: an S3 endpoint on loopback."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from uuid import uuid4

import boto3
import pytest
from library_doubles import TinyEncoder, write_pictures
from moto.server import ThreadedMotoServer

from steerclear.errors import LibraryError
from steerclear.library import Library, add, store, verify
from steerclear.library.images import read_image, square_tensor


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def uri(endpoint, monkeypatch):
    """A fresh bucket, and the environment in which every S3 client finds the endpoint."""
    for name, value in {
        "AWS_ENDPOINT": endpoint,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"b{uuid4().hex}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/library"


def test_a_library_on_s3_adds_searches_removes_and_restores_as_a_local_one_does(uri, tmp_path):
    encoder = TinyEncoder()
    pictures = write_pictures(tmp_path / "art", range(5))
    library = Library.create(uri, [encoder])
    assert len(add(library, pictures, [encoder], batch=2).added) == 5
    again = Library.open(uri)
    assert len(again) == 5
    assert add(again, pictures, [encoder]).added == []
    query = encoder(square_tensor(read_image(pictures[3]), encoder.size)[None])
    ((best, score),) = again.index(encoder.name).matches(query, 1)[0]
    assert (best, round(score, 4)) == ("picture-3", 1.0)
    before = again.version
    again.remove(["picture-3"])
    assert len(Library.open(uri)) == 4
    again.restore(before)
    again.write_note("calibration", {"thresholds": {"nearest": 0.5}})
    assert Library.open(uri).read_note("calibration") == {"thresholds": {"nearest": 0.5}}
    assert verify(again) == []


def test_two_writers_on_s3_lose_nothing(uri, tmp_path):
    encoder = TinyEncoder()
    pictures = write_pictures(tmp_path / "art", range(8))
    Library.create(uri, [encoder])

    def write(part):
        return add(Library.open(uri), part, [encoder], batch=1).added

    with ThreadPoolExecutor(2) as pool:
        added = list(pool.map(write, (pictures[::2], pictures[1::2])))
    assert len(added[0]) == len(added[1]) == 4
    assert {i.id for i in Library.open(uri).items()} == {*added[0], *added[1]}


ADD = """
import sys
from library_doubles import TinyEncoder
from steerclear.library import Library, add
print("ready", flush=True)
sys.stdin.readline()
encoder = TinyEncoder()
report = add(Library.open_or_plan(sys.argv[1], [encoder]), sys.argv[2:], [encoder], batch=2, workers=1)
print(len(report.added), len(report.skipped_duplicates), len(report.failed))
"""


def test_two_machines_that_add_to_one_bucket_at_once_add_each_picture_and_each_id_once(uri, tmp_path):
    write_pictures(tmp_path / "shared", range(8))
    lists = []
    for name, offset in (("first", 100), ("second", 200)):
        folder = tmp_path / name
        written = write_pictures(folder, range(offset, offset + 4))
        paths = [path.rename(folder / f"{i}.png") for i, path in enumerate(written)]
        # free names, which both machines choose, and an id that both wish for different pictures
        rows = [{"path": path.name, "id": "wished" if path == paths[0] else ""} for path in paths]
        lists.append(folder / "list.csv")
        with lists[-1].open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["path", "id"])
            writer.writeheader()
            writer.writerows(rows)
    machines = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, uri, str(tmp_path / "shared"), str(listed)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for listed in lists
    ]
    for machine in machines:
        assert machine.stdout.readline() == "ready\n", machine.communicate()[1]
    for machine in machines:
        machine.stdin.write("\n")
        machine.stdin.flush()
    said = [machine.communicate() for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    counts = [map(int, out.split()) for out, _ in said]
    assert [sum(column) for column in zip(*counts, strict=True)] == [15, 8, 1], said
    library = Library.open(uri)
    assert len(library) == 15
    assert verify(library, sources=True) == []


def test_a_writer_that_comes_second_looks_again_at_what_there_is(uri, tmp_path, monkeypatch):
    encoder = TinyEncoder()
    pictures = write_pictures(tmp_path / "art", range(4))
    first = Library.create(uri, [encoder])
    add(first, pictures[:1], [encoder])
    second = Library.open(uri)
    stale = second._keys()
    add(first, pictures[1:3], [encoder])
    keys, looks = Library._keys, iter([stale, stale])  # of `add` itself, and of the first attempt to insert
    monkeypatch.setattr(Library, "_keys", lambda self: next(looks, None) or keys(self))
    report = add(second, pictures[1:], [encoder])
    assert (report.added, len(report.skipped_duplicates)) == (["picture-3"], 2)
    assert len(second) == 4
    assert verify(second) == []


def test_of_two_that_make_a_library_at_once_the_second_joins_the_first(tmp_path, monkeypatch):
    encoder, address = TinyEncoder(), (tmp_path / "far").as_uri()
    pictures = write_pictures(tmp_path / "art", range(5))
    planned = [Library.plan(address, [encoder]) for _ in range(3)]
    together, create = Barrier(3), store.create_items

    def late(uri, rows):
        with suppress(BrokenBarrierError):
            together.wait(5)
        create(uri, rows)

    monkeypatch.setattr(store, "create_items", late)

    def write(i):
        return add(planned[i], [pictures[0], pictures[1 + i]], [encoder], workers=1).added

    with ThreadPoolExecutor(3) as pool:
        added = [item for items in pool.map(write, range(3)) for item in items]
    assert sorted(added) == [f"picture-{i}" for i in range(4)]
    library = Library.open(address)
    assert sorted(library.ids()) == sorted(added)
    assert verify(library, sources=True) == []


def test_a_bucket_without_a_library_says_so(uri):
    with pytest.raises(LibraryError, match="s3://"):
        Library.open(uri)
