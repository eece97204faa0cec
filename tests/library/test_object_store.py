"""The same library on object storage, over HTTP: an S3 endpoint on loopback."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import boto3
import pytest
from library_doubles import TinyEncoder, write_pictures
from moto.server import ThreadedMotoServer

from steerclear.errors import LibraryError
from steerclear.library import Library, add, verify
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


def test_a_bucket_without_a_library_says_so(uri):
    with pytest.raises(LibraryError, match="s3://"):
        Library.open(uri)
