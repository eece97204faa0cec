"""Two servers with one library on S3 and one PostgreSQL: what one changes, the other goes by."""

from __future__ import annotations

import base64
import json

import httpx2
import postgres
import pytest
from serve_doubles import GUIDANCE, ORDINARY, STEPS, THRESHOLDS, RunningServer, plain

from steerclear.encoders import load_encoder
from steerclear.library import Library, add
from steerclear.records import Records

LONG = 150  # steps, so that a request is still in flight when the library changes


@pytest.fixture
def library(assets, bucket):
    """The address of the library, on S3."""
    encoder = load_encoder("descriptor")
    library = Library.create(f"{bucket}/library", [encoder])
    add(library, sorted((assets / "art").glob("*.png")), [encoder], owner="Acme")
    library.write_note("calibration", {"thresholds": THRESHOLDS})
    return library.uri


@pytest.fixture
def database():
    """The address of an empty PostgreSQL with the tables of the records."""
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.cluster() as socket:
        address = postgres.empty_database(socket)
        Records.upgrade(address)
        yield address


@pytest.fixture
def records(database):
    with Records.open(database) as opened:
        yield opened


@pytest.fixture
def two(assets, library, database, records, tmp_path):
    """Clients of the two servers, with a key that may do everything; and the key's id."""
    key, secret = records.keys.add("test", ("generate", "review", "admin"))
    words = (
        "--model",
        assets / "model",
        "--library",
        library,
        "--database",
        database,
        "--ladder",
        "resample",
    )
    settings = ("--steps", STEPS, "--guidance", GUIDANCE, "--most-steps", LONG)
    servers = [RunningServer(tmp_path / f"{name}.log", *words, *settings) for name in ("first", "second")]
    headers = {"authorization": f"Bearer {secret}"}
    clients = []
    try:
        for server in servers:
            url = server.until_ready().url
            clients.append(httpx2.Client(base_url=url, headers=headers, timeout=300))
        yield *clients, key.id
    finally:
        for client in clients:
            client.close()
        for server in servers:
            server.stop()


def asked(steps: int, **more: object) -> dict[str, object]:
    return {"prompt": ORDINARY, "seed": 5, "num_inference_steps": steps, **more}


def generate(client: httpx2.Client, steps: int = STEPS) -> dict[str, object]:
    """What a server says of one picture."""
    answer = client.post("/v1/images/generations", json=asked(steps))
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]


def pictures_made(client: httpx2.Client) -> float:
    """How many clear pictures a server has made so far."""
    line = 'steerclear_pictures_total{outcome="clear"} '
    rows = client.get("/metrics").text.splitlines()
    return sum(float(row.removeprefix(line)) for row in rows if row.startswith(line))


def upload(client: httpx2.Client, name: str, png: bytes) -> None:
    answer = client.post("/v1/library", files={"image": (name, png, "image/png")})
    assert answer.status_code == 201, answer.text


@pytest.mark.slow
def test_a_picture_added_by_one_server_is_replaced_by_the_other_from_its_next_request_on(
    two, assets, records, tmp_path
):
    first, second, key_id = two
    plain(assets / "model", ORDINARY, 5).save(tmp_path / "bear.png")
    before = generate(second)["steerclear"]
    assert before["outcome"] == "clear"
    upload(first, "bear.png", (tmp_path / "bear.png").read_bytes())
    after = generate(second)["steerclear"]  # at once: each request looks at the library's version first
    assert (after["outcome"], after["matched"]) == ("steered", "bear")
    assert after["library_version"] > before["library_version"]

    # one audit: either server's incidents are in one chain, and a key is refused by both at once
    assert generate(first)["steerclear"]["outcome"] == "steered"
    of_second, of_first = (logged.incident for logged in records.incidents.list())
    assert {of_first.matched, of_second.matched} == {"bear"}
    assert records.verify().problems == []
    records.keys.revoke(key_id)
    for client in (first, second):
        assert client.post("/v1/images/generations", json=asked(STEPS)).status_code == 401


@pytest.mark.slow
def test_a_request_in_flight_keeps_the_version_that_it_began_with_and_names_it(two):
    first, second, _ = two
    drawn = generate(second, LONG)
    assert drawn["steerclear"]["outcome"] == "clear"
    began_with = drawn["steerclear"]["library_version"]
    last = None
    with second.stream("POST", "/v1/images/generations", json=asked(LONG, stream=True)) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if event["type"] == "image_generation.progress" and event["step"] == 2:
                # the very picture that is being made is protected from now on
                upload(first, "in-flight.png", base64.b64decode(drawn["b64_json"]))
                assert pictures_made(second) == 1, "it ended before the library changed"
            last = event
    assert last["type"] == "image_generation.completed"
    assert (last["steerclear"]["outcome"], last["steerclear"]["library_version"]) == ("clear", began_with)
    next_one = generate(second, LONG)["steerclear"]
    assert (next_one["outcome"], next_one["matched"]) == ("steered", "in-flight")
    assert next_one["library_version"] > began_with
