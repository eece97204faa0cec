"""Whatever is sent, the answer names the field, the value and the way out, and the server lives."""

from __future__ import annotations

import io
import json
import socket
import struct
import zlib
from urllib.parse import urlsplit

import pytest
from PIL import Image
from serve_doubles import ORDINARY

JSON = {"content-type": "application/json"}


@pytest.fixture
def http(served):
    with served.http(served.keys.everything) as client:
        yield client


@pytest.fixture(autouse=True)
def _alive(served):
    """After every bad request, the server has neither failed nor lost its worker."""
    failed = served.server.metric("steerclear_worker_restarts_total")
    yield
    with served.http() as client:
        assert client.get("/readyz").status_code == 200
    assert served.server.metric("steerclear_worker_restarts_total") == failed


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return error


def bomb(side):
    """A PNG of a few hundred bytes that says it has side × side pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("prompt", None, "string"),
        ("prompt", "", "say what"),
        ("prompt", ["a", "b"], "string"),
        ("prompt", "x" * 4001, "4000 is the most"),
        ("negative_prompt", "x" * 4001, "4000 is the most"),
        ("n", 0, "greater than or equal to 1"),
        ("n", 11, "at most 10"),
        ("n", "many", "integer"),
        ("size", "60x60", "try 64x64"),
        ("size", "9999x9999", "at most"),
        ("size", "0x64", "each side"),
        ("size", "large", "WIDTHxHEIGHT"),
        ("size", 512, "WIDTHxHEIGHT"),
        ("response_format", "url", "b64_json"),
        ("response_format", "svg", "b64_json"),
        ("output_format", "gif", "webp"),
        ("output_compression", 101, "less than or equal to 100"),
        ("partial_images", 4, "less than or equal to 3"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**63, "less than or equal to"),
        ("num_inference_steps", 0, "greater than or equal to 1"),
        ("num_inference_steps", 10**9, "at most 999"),
        ("guidance_scale", "much", "number"),
        ("guidance_scale", 1e9, "less than or equal to 100"),
        ("prefer", ["a"] * 5, "at most 4"),
        ("prefer", " ", "leave it out"),
        ("prefer", "data:image/png;base64,@", "base64"),
        ("stream", "perhaps", "boolean"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_with_its_value(http, field, value, word):
    answer = http.post("/v1/images/generations", json={"prompt": ORDINARY, field: value})
    error = error_of(answer, 400)
    assert error["param"] == field
    assert word in error["message"]


@pytest.mark.parametrize(
    ("path", "key", "body", "param"),
    [
        ("moderations", "generate", {"input": "x", "model": "\ud800"}, "model"),
        ("moderations", "generate", {"input": ["x", "a\udfff"]}, "input.1"),
        ("moderations", "generate", {"input": [{"type": "\ud800"}]}, "input.0.type"),
        ("images/generations", "generate", {"prompt": "x", "prefer": ["\ud83d"]}, "prefer.0"),
        ("images/generations", "generate", {"prompt": "x", "size": "\ud800"}, "size"),
        ("images/generations", "generate", {"prompt": "x", "unknown": {"\ud800": 1}}, "unknown.\\ud800"),
        ("incidents/inc-1/decision", "review", {"decision": "copy", "note": "\ud800"}, "note"),
    ],
)
def test_half_a_surrogate_pair_is_refused_wherever_it_is(served, path, key, body, param):
    with served.http(getattr(served.keys, key)) as http:
        answer = http.post(f"/v1/{path}", content=json.dumps(body).encode(), headers=JSON)
    error = error_of(answer, 400)
    assert error["param"] == param
    assert "surrogate" in error["message"]


def test_a_body_that_is_nested_deeply_is_read_or_refused(http):
    deep = b'{"input": "x", "unknown": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    assert http.post("/v1/moderations", content=deep, headers=JSON).status_code in (200, 400)


@pytest.mark.parametrize("origin", ["http://[", "http://]", "null", "", "//"])
def test_an_origin_that_cannot_be_read_is_foreign(http, origin):
    answer = http.post("/login", data={"key": "nobody"}, headers={"origin": origin})
    assert answer.status_code == 403, answer.text


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "invalid_json"),
        (b"", JSON, 400, "missing"),
        (b"[]", JSON, 400, "invalid_value"),
        (b'"text"', JSON, 400, "invalid_value"),
        (b"\xff\xfe", JSON, 400, None),
        (b'{"prompt": "\\ud800"}', JSON, 400, "invalid_value"),
        (b'{"prompt": "a", "guidance_scale": NaN}', JSON, 400, "invalid_value"),
        (b"[" * 100_000, JSON, 400, None),
        (b"prompt=a", {"content-type": "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"),
        (b'{"prompt": "a"}', {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"prompt": "a"}', {"content-type": ""}, 415, "unsupported_media_type"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(http, body, headers, status, code):
    error = error_of(http.post("/v1/images/generations", content=body, headers=headers), status)
    if code is not None:
        assert error["code"] == code


@pytest.mark.parametrize("path", ["/v1/images/edits", "/v1/check", "/v1/library", "/v1/library/search"])
@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"no parts", "multipart/form-data", 400),
        (b"--x\r\nContent-Disposition: form-data; name=", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400),
    ],
)
def test_a_form_that_cannot_be_read_is_refused(http, path, body, kind, status):
    error_of(http.post(path, content=body, headers={"content-type": kind}), status)


@pytest.mark.parametrize(
    "raw",
    [b"", b"no picture", bomb(60_000), bomb(5_000), b"\x89PNG\r\n\x1a\n", b"GIF89a"],
    ids=["empty", "text", "bomb", "smaller-bomb", "truncated", "gif"],
)
def test_a_picture_that_cannot_be_used_is_refused(http, raw):
    files = {"image": ("picture.png", raw, "image/png")}
    for path in ("/v1/check", "/v1/images/edits", "/v1/library/search", "/v1/library"):
        error = error_of(http.post(path, files=files, data={"prompt": "a"}), 400)
        assert (error["param"], error["code"]) == ("image", "invalid_image")


def test_half_a_picture_is_refused(http, protected):
    raw = protected.read_bytes()
    error = error_of(http.post("/v1/check", files={"image": ("half.png", raw[: len(raw) // 2])}), 400)
    assert "broken" in error["message"]


def test_a_picture_with_more_pixels_than_the_limit_is_refused_before_it_is_decoded(http):
    file = io.BytesIO()
    Image.new("1", (5000, 5000)).save(file, "PNG")
    error = error_of(http.post("/v1/check", files={"image": ("large.png", file.getvalue())}), 400)
    assert "16,777,216" in error["message"]


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(http):
    error = error_of(http.post("/v1/check", files={"image": ("a.png", bytes(2**22))}), 413)
    assert "4,194,304 is the most" in error["message"]

    def pieces():
        for _ in range(100):
            yield b" " * 2**20

    answer = http.post("/v1/images/generations", content=pieces(), headers=JSON)
    assert error_of(answer, 413)["code"] == "body_too_large"


def test_a_client_that_stops_in_the_middle_of_its_body_is_forgotten(served):
    head = (
        "POST /v1/images/generations HTTP/1.1",
        "host: 127.0.0.1",
        f"authorization: Bearer {served.keys.generate}",
        "content-type: application/json",
        "content-length: 1000",
    )
    with socket.create_connection(urlsplit(served.url).netloc.split(":")) as connection:
        connection.sendall("\r\n".join((*head, "", "")).encode() + b'{"prompt": ')
    with served.http() as http:
        assert http.get("/healthz").status_code == 200


def test_unknown_paths_and_methods_are_refused(http):
    assert error_of(http.get("/v1/nothing"), 404)["code"] == "not_found"
    assert error_of(http.get("/v1/images/generations"), 405)["code"] == "method_not_allowed"
    assert error_of(http.get("/v1/library", params={"limit": 0}), 400)["param"] == "limit"


def test_what_the_pipeline_refuses_is_refused_with_its_words(http):
    answer = http.post("/v1/images/generations", json={"prompt": ORDINARY, "size": "8x8"})
    assert answer.status_code in (200, 400), answer.text
