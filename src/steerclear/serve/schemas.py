"""What requests and answers look like: the OpenAI images and moderations schemas, and this server's extras.

Fields that are not known are ignored, as OpenAI-compatible servers do.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from steerclear.serve.errors import check_texts
from steerclear.serve.pictures import OutputFormat

LARGEST_SEED = 2**63 - 1
LONGEST_SIDE = 16384
MOST_PREFERRED = 4


def _size(value: Any) -> Any:
    """WxH as a pair; "auto" and nothing as None."""
    if value is None or value == "auto":
        return None
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("write WIDTHxHEIGHT, such as 512x512, or auto")
    width, height = int(match[1]), int(match[2])
    if not (1 <= width <= LONGEST_SIDE and 1 <= height <= LONGEST_SIDE):
        raise ValueError(f"each side goes from 1 to {LONGEST_SIDE}")
    return width, height


def _texts(value: Any) -> Any:
    """One text or several as a list."""
    return [value] if isinstance(value, str) else value


Size = Annotated[
    tuple[int, int] | None,
    BeforeValidator(_size, json_schema_input_type=str),
    Field(description="WIDTHxHEIGHT in pixels, or auto for the model's own.", examples=["auto", "512x512"]),
]


class Body(BaseModel):
    """What every body has in common: fields that are not known are ignored, and every text can be written."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _holds_texts(cls, value: Any) -> Any:
        check_texts(value)
        return value


class PictureRequest(Body):
    """What generations and edits share."""

    prompt: str = Field(description="What the pictures should show.")
    n: int = Field(1, ge=1, description="How many pictures.")
    size: Size = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: OutputFormat = "png"
    output_compression: int | None = Field(None, ge=0, le=100, description="Quality of webp and jpeg.")
    stream: bool = Field(False, description="Answer by server-sent events: progress, then each picture.")
    partial_images: int | None = Field(
        None, ge=0, le=3, description="No unfinished picture is ever sent; progress is."
    )
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED, description="Of the first picture's noise.")
    num_inference_steps: int | None = Field(None, ge=1, description="Denoising steps.")
    guidance_scale: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    negative_prompt: str = Field("", description="What no picture should show.")
    prefer: Annotated[list[str], BeforeValidator(_texts, json_schema_input_type=str | list[str])] = Field(
        default_factory=list,
        max_length=MOST_PREFERRED,
        description="Texts, or pictures as data: URLs, that a steered picture should resemble.",
    )

    @field_validator("n", "output_format", "stream", "negative_prompt", "prefer", mode="before")
    @classmethod
    def _null_is_the_default(cls, value: Any, info: Any) -> Any:
        return (
            cls.model_fields[info.field_name].get_default(call_default_factory=True)
            if value is None
            else value
        )

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("say what the pictures should show")
        return value


class EditRequest(PictureRequest):
    """The fields of an edit beside its pictures."""

    strength: float | None = Field(
        None, gt=0, le=1, allow_inf_nan=False, description="How much of the picture is made anew."
    )


class ModerationRequest(Body):
    """What `POST /v1/moderations` takes."""

    input: str | list[str] | list[dict[str, Any]] = Field(
        description="A text, texts, or parts of type text and image_url with data: URLs."
    )
    model: str | None = None


class ItemChanges(Body):
    """What `PATCH /v1/library/{id}` changes; what is left out stays."""

    owner: str | None = None
    licence: str | None = None
    note: str | None = None
    caption: str | None = None
    tags: list[str] | None = None
    policy: Literal["steer", "withhold"] | None = None


class Decision(Body):
    """What a reviewer decides about an incident."""

    decision: Literal["copy", "no_copy"] = Field(description="copy confirms, no_copy overrules.")
    note: str = Field("", max_length=4000)
    revise: bool = Field(False, description="Replace an earlier decision.")
