"""Who may do what: scopes, rates, requests at once, and keys that are refused."""

from __future__ import annotations

import openai
import pytest
from serve_doubles import ITEM, ORDINARY
from test_waiting import begin_a_long_one, cancel

PATHS = {
    "generate": [("POST", "/v1/images/generations"), ("POST", "/v1/requests/some-id/cancel")],
    "review": [
        ("GET", "/v1/incidents"),
        ("POST", "/v1/incidents/claim"),
        ("GET", f"/v1/library/{ITEM}/thumbnail"),
        ("POST", "/v1/library/search"),
    ],
    "admin": [
        ("POST", "/v1/library"),
        ("PATCH", f"/v1/library/{ITEM}"),
        ("DELETE", f"/v1/library/{ITEM}"),
    ],
}


@pytest.mark.parametrize(("scope", "method", "path"), [(s, *p) for s, paths in PATHS.items() for p in paths])
def test_a_key_without_the_scope_is_refused(served, scope, method, path):
    for other in {"generate", "review", "admin"} - {scope}:
        with served.http(getattr(served.keys, other)) as http:
            answer = http.request(method, path, json={})
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (403, "insufficient_scope"), path
        assert scope in error["message"]


@pytest.mark.parametrize("secret", ["", "wrong", "sck_000000000000_nothing"])
def test_no_or_a_wrong_key_is_refused(served, secret):
    with served.http() as http:
        headers = {"authorization": f"Bearer {secret}"} if secret else {"authorization": ""}
        answer = http.post("/v1/images/generations", json={"prompt": ORDINARY}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "steerclear keys add" in answer.json()["error"]["message"]


def test_a_revoked_key_is_refused_at_once(served):
    key, secret = served.records.keys.add("leaver", ("generate",))
    assert served.client(secret).models.list().data[0].id == "steerclear"
    served.records.keys.revoke(key.id)
    with pytest.raises(openai.AuthenticationError) as refusal:
        served.client(secret).models.list()
    assert refusal.value.code == "invalid_api_key"


def test_a_key_has_so_many_requests_a_minute(served):
    _, secret = served.records.keys.add("slow", ("generate",), rate=2)
    client = served.client(secret)
    client.models.list()
    client.models.list()
    with pytest.raises(openai.RateLimitError) as refusal:
        client.models.list()
    assert refusal.value.code == "rate_limit_exceeded"
    assert 1 <= int(refusal.value.response.headers["retry-after"]) <= 30


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_has_so_many_requests_at_once(served, stream):
    _, secret = served.records.keys.add("single", ("generate",), concurrency=1)
    long = begin_a_long_one(served, key=secret, request_id=f"only-{stream}", stream=stream)
    with pytest.raises(openai.RateLimitError) as refusal:
        served.client(secret).models.list()
    assert refusal.value.code == "concurrency_limit_exceeded"
    cancel(served, f"only-{stream}", served.keys.everything)
    long.wait()
    served.client(secret).models.list()


def test_without_a_key_only_health_and_figures_are_told(served):
    with served.http() as http:
        http.headers.pop("authorization")
        for path in ("/healthz", "/readyz", "/metrics"):
            assert http.get(path).status_code == 200
        assert http.get("/v1/library").status_code == 401
