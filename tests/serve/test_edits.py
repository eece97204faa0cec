"""`/v1/images/edits`: image to image, and inpainting where a mask is transparent."""

from __future__ import annotations

import base64
import io

import numpy as np
import openai
import pytest
from PIL import Image
from serve_doubles import ORDINARY


def edited(served, image, **options):
    with image.open("rb") as file:
        answer = served.client().images.edit(
            image=file, prompt=ORDINARY, extra_body={"seed": 0, **options.pop("extra", {})}, **options
        )
    return [Image.open(io.BytesIO(base64.b64decode(row.b64_json))).convert("RGB") for row in answer.data]


@pytest.fixture
def mask(tmp_path, picture):
    """Transparent in its left half."""
    opened = Image.open(picture).convert("RGBA")
    alpha = Image.new("L", opened.size, 255)
    alpha.paste(0, (0, 0, 32, 64))
    opened.putalpha(alpha)
    opened.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_an_edit_begins_from_the_picture(served, picture):
    def distance(strength):
        (produced,) = edited(served, picture, extra={"strength": strength, "num_inference_steps": 10})
        return np.abs(np.asarray(produced, float) - np.asarray(Image.open(picture), float)).mean()

    assert distance(0.1) < distance(1.0)


def test_several_edits_of_one_picture_differ(served, picture):
    first, second = edited(served, picture, n=2)
    assert first.tobytes() != second.tobytes()


def test_a_mask_is_painted_anew_where_it_is_transparent(served, picture, mask):
    with mask.open("rb") as file:
        (produced,) = edited(served, picture, mask=file, extra={"strength": 1.0, "num_inference_steps": 10})
    assert produced.size == (64, 64)


def test_an_edit_has_the_size_that_is_asked_for_or_about_the_models_own(served, tmp_path):
    wide = tmp_path / "wide.png"
    Image.linear_gradient("L").resize((400, 100)).convert("RGB").save(wide)
    assert edited(served, wide)[0].size == (128, 32)
    assert edited(served, wide, size="64x64")[0].size == (64, 64)


@pytest.mark.parametrize(
    ("name", "part"),
    [("image", "no picture"), ("mask", "transparen"), ("mask", "32 × 32"), ("image", "2 pictures")],
)
def test_a_form_that_cannot_be_edited_is_refused_by_field(served, picture, mask, name, part):
    good = ("a.png", picture.read_bytes(), "image/png")
    small = io.BytesIO()
    Image.new("RGBA", (32, 32)).save(small, "PNG")
    files = {
        "no picture": [],
        "transparen": [("image", good), ("mask", good)],
        "32 × 32": [("image", good), ("mask", ("m.png", small.getvalue(), "image/png"))],
        "2 pictures": [("image[]", good), ("image[]", good)],
    }[part]
    with served.http() as http:
        answer = http.post("/v1/images/edits", data={"prompt": "x"}, files=files or {"other": good})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name
    assert part in answer.json()["error"]["message"]


def test_a_refused_edit_raises_in_the_client(served, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with pytest.raises(openai.BadRequestError) as refusal:
        edited(served, broken)
    assert refusal.value.param == "image"
    assert refusal.value.code == "invalid_image"
