"""`POST /v1/check` and `/v1/moderations`: what the filters say of pictures and texts that exist already."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from steerclear.output import finite
from steerclear.serve.access import Caller, Looking
from steerclear.serve.answers import PROTECTED
from steerclear.serve.errors import bad_field, shown
from steerclear.serve.forms import files_of, form_of
from steerclear.serve.images import until_disconnected
from steerclear.serve.jobs import Check, CheckTexts, Job
from steerclear.serve.jobs import Request as Work
from steerclear.serve.pictures import Pixels
from steerclear.serve.schemas import ModerationRequest

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.serve.server import Server
    from steerclear.types import Detection

router = APIRouter(prefix="/v1", tags=["checks"])

MOST_PICTURES = 16
MOST_TEXTS = 64
# the categories that OpenAI's clients expect; this server judges none of them, and says so
THEIR_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)

PICTURES_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                    "required": ["image"],
                }
            }
        },
    }
}


async def looked(server: Server, request: Request, caller: Caller, work: Work) -> Any:
    """What a worker says to work that makes no pictures."""
    job = Job(id=request.state.id, owner=caller.id, request=work)
    server.dispatcher.submit(job)
    return await until_disconnected(request, server.dispatcher.wait(job))


@router.post("/check", openapi_extra=PICTURES_FORM)
async def check(request: Request, caller: Looking) -> JSONResponse:
    """Say which pictures resemble a protected one, and what every filter finds."""
    server: Server = request.app.state.server
    async with form_of(request) as form:
        files = await files_of(form, "image")
    if not 1 <= len(files) <= MOST_PICTURES:
        what = f"{len(files)} pictures were sent" if files else "no picture was sent"
        raise bad_field("image", f"{what} as image; send 1 to {MOST_PICTURES} files as image or image[]")
    with server.dispatcher.place_kept("looks"):
        images = await asyncio.to_thread(_decoded, server, files)
    rows = await looked(server, request, caller, Check(images=images))
    _count(server, rows)
    return JSONResponse({"results": [_found(row, caller) for row in rows]})


def _decoded(server: Server, files: Sequence[bytes]) -> tuple[Image.Image, ...]:
    pixels = Pixels(server.settings.most_upload_pixels)
    return tuple(pixels.decode(raw, "image") for raw in files)


def _found(row: Sequence[Detection], caller: Caller) -> dict[str, Any]:
    """One picture's detections, without what they matched for a caller who may not know."""
    hidden = () if caller.may("review") else ("matched", "where", "error")
    detected = [{k: v for k, v in asdict(d).items() if k not in hidden} for d in row]
    plain: dict[str, Any] = finite(
        {"flagged": any(d.flagged for d in row) or not row, "detections": detected}
    )
    return plain


@router.post("/moderations")
async def moderations(asked: ModerationRequest, request: Request, caller: Looking) -> JSONResponse:
    """Say of pictures and texts, in OpenAI's schema, whether they resemble something protected."""
    server: Server = request.app.state.server
    with server.dispatcher.place_kept("looks"):
        images, texts, parts = await asyncio.to_thread(_parts, server, asked.input)
    rows: dict[tuple[str, int], Sequence[Detection]] = {}
    if images:
        detected = await looked(server, request, caller, Check(images=tuple(images)))
        rows |= {("image", i): row for i, row in enumerate(detected)}
    if texts:
        detected = await looked(server, request, caller, CheckTexts(texts=tuple(texts)))
        rows |= {("text", i): row for i, row in enumerate(detected)}
    _count(server, list(rows.values()))
    return JSONResponse(
        {
            "id": f"modr-{secrets.token_hex(12)}",
            "model": asked.model or "steerclear",
            "results": [_result([(kind, rows[kind, i]) for kind, i in part]) for part in parts],
        }
    )


Place = tuple[str, int]  # "image" or "text", and its number


def _parts(server: Server, given: Any) -> tuple[list[Image.Image], list[str], list[list[Place]]]:
    """Pictures and texts of an input, and which of them each result is about.

    A list of parts is one input, a list of texts one input for each.
    """
    images: list[Image.Image] = []
    texts: list[str] = []
    if isinstance(given, str):
        given = [given]
    if not given:
        raise bad_field("input", "input is empty; send a text, a list of texts, or a list of parts")
    results: list[list[Place]] = []
    pixels = Pixels(server.settings.most_upload_pixels)
    together: list[Place] = []
    for number, part in enumerate(given):
        param = f"input.{number}"
        if isinstance(part, str):
            results.append([("text", len(texts))])
            texts.append(part)
        elif part.get("type") == "text" and isinstance(part.get("text"), str):
            together.append(("text", len(texts)))
            texts.append(part["text"])
        elif part.get("type") == "image_url" and isinstance(part.get("image_url"), dict):
            together.append(("image", len(images)))
            url = part["image_url"].get("url")
            images.append(pixels.decode_data_url(url, f"{param}.image_url.url"))
        else:
            raise bad_field(
                param, f"{param} is {shown(part)}; send parts of type text, or image_url with a data: URL"
            )
        if len(images) > MOST_PICTURES or len(texts) > MOST_TEXTS:
            raise bad_field(
                "input",
                f"input has too many parts; {MOST_PICTURES} pictures and {MOST_TEXTS} texts are the most",
            )
    for text in texts:
        if len(text) > server.settings.longest_prompt:
            raise bad_field(
                "input",
                f"a text has {len(text)} characters; {server.settings.longest_prompt} is the most here",
            )
    return images, texts, [*results, together] if together else results


def _result(detected: Sequence[tuple[str, Sequence[Detection]]]) -> dict[str, Any]:
    """One result. What has judged nothing names no input type, as OpenAI has it."""
    categories: dict[str, bool] = dict.fromkeys((*THEIR_CATEGORIES, PROTECTED), False)
    scores: dict[str, float] = dict.fromkeys(categories, 0.0)
    applied: dict[str, list[str]] = {name: [] for name in categories}
    for kind, row in detected:
        if kind == "image":
            applied[PROTECTED] = ["image"]
        for detection in row:
            of_library = detection.matched is not None or detection.filter in LIBRARY_FILTERS
            name = PROTECTED if of_library else detection.filter
            categories[name] = categories.get(name, False) or detection.flagged
            scores[name] = max(scores.get(name, 0.0), _score(detection))
            applied[name] = sorted({*applied.get(name, []), kind})
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": scores,
        "category_applied_input_types": applied,
    }


LIBRARY_FILTERS = ("nearest", "pixel", "tiled", "hash", "copy")


def _score(detection: Detection) -> float:
    """How near a detection is to flagging, in [0, 1]: from one half on it flags."""
    if detection.error is not None:
        return 1.0
    if detection.threshold <= 0 or detection.score <= 0:
        return 1.0 if detection.flagged else 0.0
    return min(1.0, 0.5 * detection.score / detection.threshold)


def _count(server: Server, rows: Sequence[Sequence[Detection]]) -> None:
    for row in rows:
        server.metrics.count_errors(row)
