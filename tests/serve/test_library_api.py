"""`/v1/library`: what is added protects from the next request on."""

from __future__ import annotations

import hashlib

import pytest
from PIL import Image
from serve_doubles import ITEM
from test_checks_api import checked


@pytest.fixture
def http(served):
    with served.http(served.keys.everything) as client:
        yield client


@pytest.fixture
def drawing(tmp_path):
    """The file of a picture that no other test has."""
    path = tmp_path / "drawing.png"
    seed = hashlib.sha256(str(tmp_path).encode()).digest()
    small = Image.frombytes("RGB", (3, 3), (seed * 2)[:27])
    small.resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return path


def upload(path):
    return {"image": (path.name, path.read_bytes(), "image/png")}


def test_the_list_says_what_is_protected(http):
    answer = http.get("/v1/library", params={"limit": 1}).json()
    (item,) = answer["data"]
    assert (item["id"], item["owner"], item["policy"]) == (ITEM, "Acme", "steer")
    assert answer["total"] >= 1
    assert http.get(f"/v1/library/{ITEM}").json() == item
    assert http.get(f"/v1/library/{ITEM}/thumbnail").content.startswith(b"\x89PNG")
    assert http.get("/v1/library", params={"owner": "nobody"}).json()["data"] == []


def test_an_added_picture_is_flagged_until_it_is_removed(served, http, drawing):
    assert not checked(served, drawing)[0]["flagged"]
    notes = {"owner": "Beta", "tags": "one, two", "note": "for a while", "caption": "waves"}
    answer = http.post("/v1/library", files=upload(drawing), data=notes)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"added": ["drawing"], "skipped_duplicates": [], "failed": []}
    item = http.get("/v1/library/drawing").json()
    assert (item["owner"], item["tags"], item["caption"]) == ("Beta", ["one", "two"], "waves")
    assert checked(served, drawing)[0]["flagged"]
    assert http.post("/v1/library", files=upload(drawing)).json()["skipped_duplicates"] == ["drawing.png"]
    assert http.delete("/v1/library/drawing").json()["removed"] is True
    assert not checked(served, drawing)[0]["flagged"]


def test_notes_and_policy_can_be_changed(http):
    changed = http.patch(f"/v1/library/{ITEM}", json={"note": "seen in March", "tags": ["fox", "mascot"]})
    assert (changed.json()["note"], changed.json()["tags"]) == ("seen in March", ["fox", "mascot"])
    assert http.get(f"/v1/library/{ITEM}").json()["policy"] == "steer"
    http.patch(f"/v1/library/{ITEM}", json={"note": "the mascot", "tags": []})


def test_the_library_is_searched_by_picture(http, protected):
    matches = http.post("/v1/library/search", files=upload(protected), params={"k": 1}).json()["data"]
    assert matches[0]["id"] == ITEM
    assert matches[0]["score"] > 0.999


def test_what_cannot_be_added_changed_or_found_is_refused_by_name(http, tmp_path):
    blank = tmp_path / "blank.png"
    Image.new("RGB", (64, 64)).save(blank)
    answer = http.post("/v1/library", files=upload(blank))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "image")
    assert "blank.png" in answer.json()["error"]["message"]
    for method in ("GET", "PATCH", "DELETE"):
        answer = http.request(method, "/v1/library/nobody", json=None if method == "GET" else {})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    answer = http.patch(f"/v1/library/{ITEM}", json={"policy": "laugh"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "policy")
