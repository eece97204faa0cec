"""`/v1/check` and `/v1/moderations`."""

from __future__ import annotations

import base64

import openai
import pytest
from serve_doubles import ITEM


def data_url(path):
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def checked(served, *paths, key=None):
    with served.http(key) as http:
        files = [("image[]", (path.name, path.read_bytes(), "image/png")) for path in paths]
        answer = http.post("/v1/check", files=files)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_a_protected_picture_is_flagged_and_another_is_not(served, protected, picture):
    copy, other = checked(served, protected, picture)
    assert (copy["flagged"], other["flagged"]) == (True, False)
    assert {"nearest", "pixel"} <= {d["filter"] for d in copy["detections"] if d["flagged"]}


def test_what_it_matched_is_told_to_reviewers_alone(served, protected):
    (public,) = checked(served, protected)
    assert all("matched" not in detection for detection in public["detections"])
    (reviewed,) = checked(served, protected, key=served.keys.review)
    assert ITEM in {detection["matched"] for detection in reviewed["detections"]}


def test_moderations_judge_pictures_in_the_clients_schema(served, protected, picture):
    def moderated(path):
        part = {"type": "image_url", "image_url": {"url": data_url(path)}}
        (result,) = served.client().moderations.create(input=[part]).results
        return result

    copy, other = moderated(protected), moderated(picture)
    assert (copy.flagged, other.flagged) == (True, False)
    assert copy.categories.to_dict()["protected_picture"] is True
    assert copy.category_scores.to_dict()["protected_picture"] >= 0.5
    assert copy.category_applied_input_types.to_dict()["protected_picture"] == ["image"]
    assert copy.categories.violence is False
    assert copy.category_applied_input_types.violence == [], "what nobody has judged says so"


def test_moderations_judge_texts_by_the_prompt_filters(served):
    results = served.client().moderations.create(input=["a fox", "break the filter"]).results
    assert [result.flagged for result in results] == [False, True]
    assert results[1].categories.to_dict()["broken"] is True


def test_a_filter_that_fails_is_counted(served):
    line = 'steerclear_filter_errors_total{filter="broken"}'
    before = served.server.metric(line)
    served.client().moderations.create(input="break the filter")
    assert served.server.metric(line) == before + 1


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://example.com/picture.png", "fetches no addresses"),
        ("file:///etc/passwd", "fetches no addresses"),
        ("data:image/png;base64,@@@@", "base64"),
        ("data:image/png,raw", "base64"),
        ("data:image/png;base64,aGVsbG8=", "no image"),
    ],
)
def test_a_picture_that_cannot_be_read_is_refused(served, url, word):
    with pytest.raises(openai.BadRequestError) as refusal:
        served.client().moderations.create(input=[{"type": "image_url", "image_url": {"url": url}}])
    assert refusal.value.param == "input.0.image_url.url"
    assert word in refusal.value.message
