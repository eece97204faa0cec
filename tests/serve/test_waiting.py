"""The queue is bounded, and nobody's pictures are made who no longer waits."""

from __future__ import annotations

import json
import socket
import threading
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from serve_doubles import FLAGGED_SLOWLY, ORDINARY

LONG = 900  # steps: seconds of work, of which nearly all must be saved


def asks(client, steps=LONG, **extra):
    return client.images.generate(prompt=ORDINARY, extra_body={"num_inference_steps": steps, **extra})


class InBackground:
    """A request in a thread of its own."""

    def __init__(self, served, steps=LONG, key=None, **fields):
        headers = {"authorization": f"Bearer {key or served.keys.generate}"}
        if "request_id" in fields:
            headers["x-request-id"] = fields.pop("request_id")
        self._http = httpx2.Client(base_url=served.url, headers=headers, timeout=120, verify=False)
        self._body = {"prompt": ORDINARY, "num_inference_steps": steps, "seed": 0, **fields}
        self.answer = None
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self):
        try:
            with self._http.stream("POST", "/v1/images/generations", json=self._body) as answer:
                answer.read()
                self.answer = answer
        except Exception as error:
            self.answer = error
        finally:
            self._http.close()

    def wait(self):
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self.answer


def running(served):
    """How many requests a worker has taken so far."""
    return served.server.metric("steerclear_queue_wait_seconds_count")


def waiting(served):
    return served.server.metric('steerclear_queue_depth{lane="pictures"}')


def begin_a_long_one(served, **fields):
    before = running(served)
    request = InBackground(served, **fields)
    served.server.until(lambda: running(served) > before)
    return request


def cancel(served, request_id, key=None):
    with served.http(key) as http:
        return http.post(f"/v1/requests/{request_id}/cancel")


def evaluations_for_nobody(served):
    return served.server.metric("steerclear_abandoned_evaluations_total")


def requests_for_nobody(served):
    return served.server.metric("steerclear_abandoned_requests_total")


def test_a_running_request_is_ended_on_demand(served):
    ended, spent = requests_for_nobody(served), evaluations_for_nobody(served)
    long = begin_a_long_one(served, request_id="mine")
    assert cancel(served, "mine").json() == {"id": "mine", "cancelled": True}
    answer = long.wait()
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "aborted"
    assert answer.headers["x-should-retry"] == "false"
    served.server.until(lambda: requests_for_nobody(served) == ended + 1)
    assert evaluations_for_nobody(served) - spent < LONG, "a whole one takes two evaluations a step"


def test_only_the_key_that_sent_a_request_or_an_admin_ends_it(served):
    other, secret = served.records.keys.add("somebody else", ("generate",))
    long = begin_a_long_one(served, request_id="not-yours")
    assert cancel(served, "not-yours", secret).status_code == 404
    assert cancel(served, "unknown").json()["error"]["param"] == "request_id"
    assert cancel(served, "not-yours", served.keys.everything).status_code == 200
    long.wait()
    served.records.keys.revoke(other.id)


def begin_and_go_away(served, body, request_id):
    """Send a request, and close the connection once a worker has begun it."""
    begun = running(served)
    with socket.create_connection(urlsplit(served.url).netloc.split(":")) as connection:
        content = json.dumps(body).encode()
        head = (
            "POST /v1/images/generations HTTP/1.1",
            "host: 127.0.0.1",
            f"authorization: Bearer {served.keys.generate}",
            f"x-request-id: {request_id}",
            "content-type: application/json",
            f"content-length: {len(content)}",
        )
        connection.sendall("\r\n".join((*head, "", "")).encode() + content)
        served.server.until(lambda: running(served) > begun)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_the_worker(served, stream):
    ended, spent = requests_for_nobody(served), evaluations_for_nobody(served)
    body = {"prompt": ORDINARY, "num_inference_steps": LONG, "seed": 0, "stream": stream}
    begin_and_go_away(served, body, f"gone-{stream}")
    served.server.until(lambda: requests_for_nobody(served) == ended + 1)
    assert evaluations_for_nobody(served) - spent < LONG


def test_a_request_that_waits_is_never_begun_when_its_client_goes_away(served):
    long = begin_a_long_one(served, request_id="first")
    before = running(served)
    with pytest.raises(openai.APITimeoutError):
        served.client().with_options(timeout=0.5).images.generate(prompt=ORDINARY)
    served.server.until(lambda: waiting(served) == 0)
    cancel(served, "first")
    long.wait()
    asks(served.client(), steps=1)
    assert running(served) == before + 1, "the one that waited was not begun"


def test_more_than_the_queue_holds_is_told_when_to_come_again(served):
    long = begin_a_long_one(served, request_id="front")
    others = [InBackground(served, steps=1) for _ in range(3)]
    served.server.until(lambda: waiting(served) == 3)
    with pytest.raises(openai.RateLimitError) as refusal:
        asks(served.client(), steps=1)
    assert refusal.value.code == "queue_full"
    assert int(refusal.value.response.headers["retry-after"]) >= 1
    cancel(served, "front")
    long.wait()
    assert [other.wait().status_code for other in others] == [200, 200, 200]


def test_a_request_id_is_the_clients_and_is_in_use_once(served):
    long = begin_a_long_one(served, request_id="twice")
    answer = InBackground(served, steps=1, request_id="twice").wait()
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "request_id_in_use")
    assert answer.headers["x-request-id"] == "twice"
    cancel(served, "twice")
    long.wait()


def test_an_id_that_comes_again_while_a_worker_leaves_the_last_one_of_it_gets_its_own_answer(served, picture):
    long = begin_a_long_one(served, request_id="again")
    cancel(served, "again")
    with served.http() as http:
        answer = http.post(
            "/v1/check",
            files={"image": (picture.name, picture.read_bytes())},
            headers={"x-request-id": "again"},
        )
    assert answer.status_code == 200
    assert answer.json()["results"][0]["flagged"] is False
    long.wait()


@pytest.mark.parametrize("route", ["cancel", "disconnect"])
def test_a_request_that_was_flagged_and_then_cancelled_is_an_incident(served, route):
    name = f"flagged-{route}"
    asked = {"prompt": FLAGGED_SLOWLY, "prefer": ["a bear"]}
    if route == "cancel":
        request = begin_a_long_one(served, request_id=name, **asked)
        assert cancel(served, name).status_code == 200
        request.wait()
    else:
        begin_and_go_away(served, asked, name)

    def incidents():
        rows = served.records.incidents.list(limit=1000)
        return [row.incident for row in rows if row.incident.request == name]

    [incident] = served.server.until(incidents)
    assert (incident.outcome, incident.report["reason"]) == ("withheld", "cancelled")
    assert (incident.prompt, incident.settings["prefer"]) == (FLAGGED_SLOWLY, ["a bear"])
    assert incident.handed_out is None


def test_a_request_that_was_cancelled_and_not_flagged_is_no_incident(served):
    ended = requests_for_nobody(served)
    long = begin_a_long_one(served, request_id="nothing-flagged")
    cancel(served, "nothing-flagged")
    long.wait()
    served.server.until(lambda: requests_for_nobody(served) == ended + 1)
    rows = served.records.incidents.list(limit=1000)
    assert all(row.incident.request != "nothing-flagged" for row in rows)
