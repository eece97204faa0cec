"""`stream=True`: progress, then each picture once the filters have seen it."""

from __future__ import annotations

import base64
import io

import openai
import pytest
from PIL import Image
from serve_doubles import COPIED, ITEM, ORDINARY, STEPS


def events_of(served, prompt, **options):
    return list(
        served.client().images.generate(
            prompt=prompt, stream=True, extra_body={"seed": 0, **options.pop("extra", {})}, **options
        )
    )


def test_a_stream_is_progress_and_one_finished_picture(served):
    events = events_of(served, ORDINARY)
    kinds = [event.type for event in events]
    assert kinds == [
        "image_generation.queued",
        *["image_generation.progress"] * STEPS,
        "image_generation.completed",
    ]
    assert [event.step for event in events[1:-1]] == [1, 2, 3]
    last = events[-1]
    assert Image.open(io.BytesIO(base64.b64decode(last.b64_json))).size == (64, 64)
    assert (last.size, last.output_format, last.usage.total_tokens) == ("64x64", "png", 0)
    assert last.steerclear["outcome"] == "clear"


def test_the_streamed_picture_is_the_one_that_is_not_streamed(served):
    streamed = events_of(served, ORDINARY)[-1]
    answer = served.client().images.generate(prompt=ORDINARY, extra_body={"seed": 0})
    assert streamed.b64_json == answer.data[0].b64_json


def test_no_unfinished_picture_is_sent_however_many_are_asked_for(served):
    events = events_of(served, COPIED, partial_images=3)
    assert not [event for event in events if event.type == "image_generation.partial_image"]
    assert [event.type for event in events if getattr(event, "b64_json", None)] == [
        "image_generation.completed"
    ]
    assert {event.attempt for event in events if event.type == "image_generation.progress"} == {
        None,
        "resample",
    }


def test_several_pictures_come_one_event_each(served):
    events = events_of(served, ORDINARY, n=2)
    finished = [event for event in events if event.type == "image_generation.completed"]
    assert [event.steerclear["index"] for event in finished] == [0, 1]


def test_withheld_pictures_are_named_in_the_stream(served):
    with served.http(served.keys.everything) as http:
        http.patch(f"/v1/library/{ITEM}", json={"policy": "withhold"})
        try:
            events = events_of(served, COPIED, n=2)
            kinds = [event.type for event in events if event.type != "image_generation.progress"]
            assert kinds[1:] == ["image_generation.withheld", "image_generation.completed"]
            with pytest.raises(openai.APIError) as refusal:
                events_of(served, COPIED)
            assert refusal.value.code == "moderation_blocked"
        finally:
            http.patch(f"/v1/library/{ITEM}", json={"policy": "steer"})


def test_what_is_refused_before_any_work_is_refused_by_its_status(served):
    with pytest.raises(openai.BadRequestError) as refusal:
        events_of(served, ORDINARY, size="60x60")
    assert refusal.value.param == "size"


def test_an_edit_streams_its_own_events(served, picture):
    with picture.open("rb") as file:
        events = list(
            served.client().images.edit(image=file, prompt=ORDINARY, stream=True, extra_body={"seed": 0})
        )
    assert events[0].type == "image_edit.queued"
    assert events[-1].type == "image_edit.completed"
