"""`/v1/check` and `/v1/moderations`."""

from __future__ import annotations

import asyncio
import base64
import io

import openai
import pytest
from PIL import Image
from serve_doubles import ITEM

from steerclear.serve.dispatch import Dispatcher
from steerclear.serve.errors import ApiError
from steerclear.serve.metrics import Metrics
from steerclear.serve.pictures import Pixels
from steerclear.serve.settings import ServeSettings


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


def flat(side):
    """A PNG of a few kilobytes with side × side pixels."""
    written = io.BytesIO()
    Image.new("L", (side, side)).save(written, "PNG")
    return written.getvalue()


def test_the_pictures_of_a_request_have_a_limit_together(served):
    half = flat(3000)  # two of them are more than 2**24 pixels
    with served.http() as http:
        answer = http.post("/v1/check", files=[("image", ("a.png", half))] * 2)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "image"
        assert "18,000,000 pixels; 16,777,216 is the most" in answer.json()["error"]["message"]
        part = {"type": "image_url", "image_url": {"url": f"data:;base64,{base64.b64encode(half).decode()}"}}
        answer = http.post("/v1/moderations", json={"input": [part, part]})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "input.1.image_url.url"
        body = {"prompt": "a bear", "prefer": [part["image_url"]["url"]] * 2}
        answer = http.post("/v1/images/generations", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prefer")


def test_pictures_may_have_as_many_pixels_together_as_the_limit_and_not_one_more():
    pixels = Pixels(2 * 64**2)
    assert [pixels.decode(flat(64), "image").size for _ in range(2)] == [(64, 64)] * 2
    with pytest.raises(ApiError, match="smaller or fewer"):
        pixels.decode(flat(1), "image")


def test_a_full_queue_is_asked_before_a_picture_is_decoded():
    async def fill():
        dispatcher = Dispatcher(ServeSettings(model="", library="", insecure=True, queue=1), Metrics())
        with dispatcher.place_kept("looks"):
            with pytest.raises(ApiError) as refusal, dispatcher.place_kept("looks"):
                raise AssertionError("there was no place")
            assert (refusal.value.status_code, refusal.value.error["code"]) == (429, "queue_full")
        with dispatcher.place_kept("looks"):
            pass

    asyncio.run(fill())
