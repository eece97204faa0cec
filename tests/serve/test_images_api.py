"""`/v1/images/generations` as the official client asks for it."""

from __future__ import annotations

import base64
import io
import resource

import openai
import pytest
from PIL import Image
from serve_doubles import COPIED, ITEM, ORDINARY, plain


def pictures_of(answer):
    return [Image.open(io.BytesIO(base64.b64decode(image.b64_json))) for image in answer.data]


@pytest.fixture
def withholding(served):
    """The protected picture's policy is to withhold until the test ends."""
    with served.http(served.keys.everything) as http:
        assert http.patch(f"/v1/library/{ITEM}", json={"policy": "withhold"}).status_code == 200
        yield
        assert http.patch(f"/v1/library/{ITEM}", json={"policy": "steer"}).status_code == 200


def test_a_clear_picture_is_the_plain_pipelines_to_the_bit(served, assets):
    answer = served.client().images.generate(prompt=ORDINARY, extra_body={"seed": 7})
    (picture,) = pictures_of(answer)
    assert picture.tobytes() == plain(assets / "model", ORDINARY, 7).tobytes()
    assert answer.size == "64x64"
    said = answer.data[0].steerclear
    assert (said["outcome"], said["seed"], said["overhead"]) == ("clear", 7, 1.0)


def test_a_copy_is_replaced_and_recorded_before_it_is_answered(served, protected):
    answer = served.client().images.generate(prompt=COPIED, extra_body={"seed": 0})
    (picture,) = pictures_of(answer)
    said = answer.data[0].steerclear
    assert said["outcome"] == "steered"
    assert said["overhead"] > 1
    assert picture.tobytes() != Image.open(protected).tobytes()
    incident = served.records.incidents.get(said["report_id"])
    assert (incident.incident.matched, incident.incident.prompt) == (ITEM, COPIED)
    assert incident.incident.request == answer.steerclear["request_id"]


def test_the_protected_picture_is_named_to_reviewers_alone(served):
    extra = {"seed": 0}
    public = served.client().images.generate(prompt=COPIED, extra_body=extra)
    assert ITEM not in public.to_json()
    reviewer = served.client(served.keys.everything).images.generate(prompt=COPIED, extra_body=extra)
    assert reviewer.data[0].steerclear["matched"] == ITEM


def test_of_four_pictures_one_is_withheld_and_named(served, withholding):
    answer = served.client().images.generate(prompt=COPIED, n=4, extra_body={"seed": 0})
    assert [image.steerclear["index"] for image in answer.data] == [1, 2, 3]
    assert all(picture.size == (64, 64) for picture in pictures_of(answer))
    (withheld,) = answer.steerclear["withheld"]
    assert (withheld["index"], withheld["outcome"], withheld["seed"]) == (0, "withheld", 0)
    assert served.records.incidents.get(withheld["report_id"]).incident.outcome == "withheld"
    assert ITEM not in answer.to_json()


def test_where_all_are_withheld_the_client_is_told_as_openai_would(served, withholding):
    with pytest.raises(openai.BadRequestError) as refusal:
        served.client().images.generate(prompt=COPIED, extra_body={"seed": 0})
    error = refusal.value
    assert error.code == "moderation_blocked"
    assert error.type == "image_generation_user_error"
    assert error.body["moderation_details"] == {
        "moderation_stage": "output",
        "categories": ["protected_picture"],
    }
    report = error.body["steerclear"]["withheld"][0]["report_id"]
    assert report in error.body["message"]
    assert served.records.incidents.get(report).incident.outcome == "withheld"
    assert ITEM not in str(error.body)


@pytest.mark.parametrize(("name", "kind"), [("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
def test_pictures_come_in_the_format_that_is_asked_for(served, name, kind):
    answer = served.client().images.generate(prompt=ORDINARY, output_format=name, extra_body={"seed": 1})
    assert pictures_of(answer)[0].format == kind
    assert answer.output_format == name


def test_more_compression_makes_a_smaller_file(served):
    sizes = [
        len(
            served.client()
            .images.generate(
                prompt=ORDINARY, output_format="jpeg", output_compression=quality, extra_body={"seed": 1}
            )
            .data[0]
            .b64_json
        )
        for quality in (20, 100)
    ]
    assert sizes[0] < sizes[1]


def test_sizes_are_width_by_height(served):
    answer = served.client().images.generate(prompt=ORDINARY, size="64x128", extra_body={"seed": 1})
    assert pictures_of(answer)[0].size == (64, 128)
    assert answer.size == "64x128"


def test_extras_reach_the_pipeline_and_unknown_fields_are_ignored(served):
    def produced(**extra):
        answer = served.client().images.generate(
            prompt=ORDINARY,
            model="gpt-image-1",
            quality="high",
            background="auto",
            moderation="low",
            user="somebody",
            extra_body={"seed": 3, "lora": "none", **extra},
        )
        return pictures_of(answer)[0].tobytes()

    usual = produced()
    assert usual == produced(num_inference_steps=3, guidance_scale=4.0)
    others = [produced(num_inference_steps=2), produced(guidance_scale=1.5), produced(negative_prompt="snow")]
    assert len({usual, *others}) == 4


def test_preferred_texts_and_pictures_are_taken(served, picture):
    url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    for prefer in ("an owl", ["an owl", url]):
        answer = served.client().images.generate(prompt=COPIED, extra_body={"seed": 0, "prefer": prefer})
        assert answer.data[0].steerclear["outcome"] == "steered"


def test_without_a_seed_the_seed_that_was_drawn_makes_the_picture_again(served):
    first = served.client().images.generate(prompt=ORDINARY)
    again = served.client().images.generate(
        prompt=ORDINARY, extra_body={"seed": first.data[0].steerclear["seed"]}
    )
    assert first.data[0].b64_json == again.data[0].b64_json


@pytest.fixture
def full_disk(served):
    """The server's process cannot write a byte to any file until the test ends, as on a full disk."""
    pid = served.server.process.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


def test_nothing_is_handed_out_that_cannot_be_recorded(served, full_disk):
    with pytest.raises(openai.InternalServerError) as refusal:
        served.client().images.generate(prompt=COPIED, extra_body={"seed": 0})
    assert (refusal.value.status_code, refusal.value.code) == (503, "storage")
    clear = served.client().images.generate(prompt=ORDINARY, extra_body={"seed": 0})
    assert clear.data[0].steerclear["outcome"] == "clear"


def test_an_upload_that_finds_no_room_is_refused(served, full_disk):
    with served.http() as http:
        answer = http.post("/v1/check", files={"image": ("large.png", bytes(3 * 2**20))})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage")


def test_after_a_full_disk_incidents_are_recorded_again(served):
    answer = served.client().images.generate(prompt=COPIED, extra_body={"seed": 0})
    assert served.records.incidents.get(answer.data[0].steerclear["report_id"])
    assert served.records.verify().problems == []
