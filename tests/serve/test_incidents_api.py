"""`/v1/incidents`: the reviewers' queue over HTTP."""

from __future__ import annotations

import pytest
from serve_doubles import COPIED, ITEM


@pytest.fixture
def http(served):
    with served.http(served.keys.review) as client:
        yield client


@pytest.fixture
def incident(served):
    """The id of a new incident."""
    answer = served.client().images.generate(prompt=COPIED, extra_body={"seed": 0})
    return answer.data[0].steerclear["report_id"]


def test_an_incident_says_what_happened(http, incident):
    seen = http.get(f"/v1/incidents/{incident}").json()
    assert (seen["outcome"], seen["matched"], seen["prompt"]) == ("steered", ITEM, COPIED)
    assert seen["settings"]["steps"] == 3
    assert len(seen["handed_out"]) == 64
    assert incident in [row["id"] for row in http.get("/v1/incidents", params={"limit": 1000}).json()["data"]]


def test_the_list_comes_in_pages(http, incident):
    first = http.get("/v1/incidents", params={"limit": 1}).json()
    assert len(first["data"]) == 1
    rest = http.get("/v1/incidents", params={"after": first["next"], "limit": 1000}).json()
    assert first["data"][0]["id"] not in [row["id"] for row in rest["data"]]


def test_a_reviewer_claims_the_oldest_and_decides_once(http, incident):
    claimed = http.post("/v1/incidents/claim").json()["incident"]
    path = f"/v1/incidents/{claimed['id']}/decision"
    decided = http.post(path, json={"decision": "no_copy", "note": "another fox"}).json()
    assert (decided["state"], decided["decision"], decided["note"]) == ("decided", "no_copy", "another fox")
    again = http.post(path, json={"decision": "copy"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    revised = http.post(path, json={"decision": "copy", "revise": True}).json()
    assert revised["decision"] == "copy"
    assert http.post("/v1/incidents/claim").json()["incident"]["id"] != claimed["id"]


def test_an_unknown_incident_and_an_unknown_decision_are_refused(http, incident):
    for method, path in (("GET", ""), ("POST", "/decision"), ("GET", "/thumbnail")):
        answer = http.request(method, f"/v1/incidents/inc-none{path}", json={"decision": "copy"})
        assert answer.status_code == 404, path
    answer = http.post(f"/v1/incidents/{incident}/decision", json={"decision": "perhaps"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "decision")
    assert http.get(f"/v1/incidents/{incident}/thumbnail").status_code == 404, "none is kept"
