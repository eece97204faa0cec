"""`POST /v1/images/generations` and `/v1/images/edits`: what is wanted, read; made; and answered."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from steerclear.serve.access import Caller, Generating
from steerclear.serve.answers import delivered, images_response, record_abandoned
from steerclear.serve.errors import ApiError, bad_field, invalid, log, naming_the_field, shown, unavailable
from steerclear.serve.forms import files_of, form_of
from steerclear.serve.jobs import Job, MakePictures, PictureSettings
from steerclear.serve.pictures import Pixels, decode, decode_mask
from steerclear.serve.schemas import LARGEST_SEED, EditRequest, PictureRequest
from steerclear.serve.streaming import Kind, stream
from steerclear.serve.tracing import span

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.serve.server import Server

Result = TypeVar("Result")

router = APIRouter(prefix="/v1/images", tags=["images"])

PREFER = ("prefer", "prefer[]")  # a list in a form
STRENGTH = 0.8  # of an edit that names none, as of diffusers' pipelines


@router.post("/generations")
async def generations(asked: PictureRequest, request: Request, caller: Generating) -> Response:
    """Make pictures of a prompt; what resembles a protected one is replaced, or withheld and named."""
    server: Server = request.app.state.server
    job = job_of(
        server, request=request, caller=caller, asked=asked, settings=await settings_of(server, asked)
    )
    return await _answer(server, request, caller, asked, job)


def _edit_form() -> dict[str, Any]:
    """The form of an edit, for the API's description."""
    schema = EditRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    picture = {"type": "string", "format": "binary"}
    schema["properties"] |= {"image": picture, "image[]": picture, "mask": picture}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


@router.post("/edits", openapi_extra=_edit_form())
async def edits(request: Request, caller: Generating) -> Response:
    """Make a picture anew from another: all of it, or where a mask is transparent."""
    server: Server = request.app.state.server
    async with form_of(request) as form:
        try:
            fields = {k: v for k, v in form.multi_items() if not isinstance(v, UploadFile)}
            preferred = [v for k, v in form.multi_items() if k in PREFER and isinstance(v, str)]
            asked = EditRequest.model_validate({**fields, "prefer": preferred})
        except ValidationError as error:
            raise invalid(error.errors()) from error
        pictures = await files_of(form, "image")
        masks = await files_of(form, "mask")
    with server.dispatcher.place_kept("pictures"):
        image, mask = await asyncio.to_thread(_to_edit, server, pictures, masks)
    settings = await settings_of(server, asked, image=image, mask=mask)
    job = job_of(server, request=request, caller=caller, asked=asked, settings=settings)
    return await _answer(server, request, caller, asked, job)


def _to_edit(
    server: Server, pictures: Sequence[bytes], masks: Sequence[bytes]
) -> tuple[Image.Image, Image.Image | None]:
    """The picture of an edit and its mask, decoded."""
    if len(pictures) != 1:
        what = f"{len(pictures)} pictures were sent" if pictures else "no picture was sent"
        raise bad_field("image", f"{what} as image; this model edits one at a time: send one file as image")
    if len(masks) > 1:
        raise bad_field("mask", f"{len(masks)} masks were sent; send one, or none to make everything anew")
    most = server.settings.most_upload_pixels
    image = decode(pictures[0], "image", most_pixels=most)
    return image, decode_mask(masks[0], image.size, most_pixels=most) if masks else None


async def settings_of(
    server: Server,
    asked: PictureRequest,
    *,
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> PictureSettings:
    """Everything but prompt and seed, checked against what server and model can do.

    Raises:
        ApiError: that names the field, its value and the way out.
    """
    limits = server.settings
    if asked.response_format == "url":
        raise bad_field(
            "response_format",
            "response_format is 'url', and this server keeps no pictures to serve later; ask for b64_json",
        )
    if asked.n > limits.most_images:
        raise bad_field(
            "n", f"n is {asked.n}; this server makes at most {limits.most_images} pictures a request"
        )
    steps = asked.num_inference_steps or limits.steps
    if steps > limits.most_steps:
        raise bad_field(
            "num_inference_steps",
            f"num_inference_steps is {steps}; this server takes at most {limits.most_steps}",
        )
    for name in ("prompt", "negative_prompt"):
        _check_text(name, getattr(asked, name), limits.longest_prompt)
    _check_size(server, asked.size)
    if image is not None:
        _check_edits(server, masked=mask is not None)
    used = 0 if image is None else image.width * image.height * (1 if mask is None else 2)
    pixels = Pixels(limits.most_upload_pixels, used)
    preferred: list[str | Image.Image] = []
    if any(wish.startswith("data:") for wish in asked.prefer):
        with server.dispatcher.place_kept("pictures"):
            for wish in asked.prefer:
                preferred.append(await asyncio.to_thread(_preferred, server, wish, pixels))
    else:
        preferred += [_preferred(server, wish, pixels) for wish in asked.prefer]
    strength = getattr(asked, "strength", None)
    return PictureSettings(
        steps=steps,
        guidance=limits.guidance if asked.guidance_scale is None else asked.guidance_scale,
        size=asked.size,
        negative_prompt=asked.negative_prompt,
        prefer=tuple(preferred),
        image=image,
        mask=mask,
        strength=None if image is None else STRENGTH if strength is None else strength,
    )


def _check_text(name: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise bad_field(
            name,
            f"{name} has {len(text)} characters; {longest} is the most here, and models read far less",
            code="string_above_max_length",
        )


def _check_size(server: Server, size: tuple[int, int] | None) -> None:
    if size is None:
        return
    width, height = size
    most = server.settings.most_pixels
    if width * height > most:
        raise bad_field(
            "size", f"size is {width}x{height}, {width * height:,} pixels; this server makes at most {most:,}"
        )
    abilities = server.dispatcher.abilities
    if abilities is not None and (width % abilities.multiple or height % abilities.multiple):
        near = "x".join(str(max(1, round(side / abilities.multiple)) * abilities.multiple) for side in size)
        raise bad_field(
            "size",
            f"size is {width}x{height}; this model's sides are multiples of {abilities.multiple}: try {near}",
        )


def _check_edits(server: Server, *, masked: bool) -> None:
    """Refuse an edit that the model's family has no pipeline for."""
    abilities = server.dispatcher.abilities
    if abilities is None:
        raise unavailable("the model is being loaded; try again soon", code="loading")
    if masked and not abilities.inpainting:
        raise bad_field("mask", "a mask was sent, and this server's model cannot inpaint; leave the mask out")
    if not masked and not abilities.image_to_image:
        raise bad_field("image", "this server's model cannot edit pictures; use /v1/images/generations")


def _preferred(server: Server, wish: str, pixels: Pixels) -> str | Image.Image:
    """A text that pulls, or the picture of a data: URL."""
    if wish.startswith("data:"):
        return pixels.decode_data_url(wish, "prefer")
    if not wish.strip():
        raise bad_field(
            "prefer", f"prefer holds {shown(wish)}; say what a picture should resemble, or leave it out"
        )
    _check_text("prefer", wish, server.settings.longest_prompt)
    return wish


def job_of(
    server: Server, request: Request, caller: Caller, asked: PictureRequest, settings: PictureSettings
) -> Job:
    seed = secrets.randbelow(LARGEST_SEED) if asked.seed is None else asked.seed
    wanted = MakePictures(prompt=asked.prompt, seed=seed, count=asked.n, settings=settings)
    job = Job(id=request.state.id, owner=caller.id, request=wanted)
    job.on_abandoned = partial(
        record_abandoned, server, settings=recorded(job), key=caller.id, request_id=job.id
    )
    if server.settings.log_prompts:
        log.info("%s key %s prompt %r", job.id, caller.id, asked.prompt)
    return job


async def _answer(
    server: Server, request: Request, caller: Caller, asked: PictureRequest, job: Job
) -> Response:
    """Wait for the pictures, and answer in one piece or by events."""
    settings = recorded(job)
    if asked.stream:
        kind: Kind = "image_edit" if isinstance(asked, EditRequest) else "image_generation"
        return stream(server, request, caller, asked=asked, job=job, settings=settings, kind=kind)
    with span("pictures", n=asked.n, key=caller.id) as traced:
        server.dispatcher.submit(job)
        try:
            produced = await until_disconnected(request, server.dispatcher.wait(job))
        except ApiError as error:
            raise naming_the_field(error) from None
        pictures = await delivered(
            server, caller, request_id=job.id, asked=asked, settings=settings, produced=produced
        )
        traced(outcomes=[str(picture.report.outcome) for picture in pictures])
    assert job.begun is not None
    # milliseconds, as browsers show them
    waited = f"queue;dur={1000 * (job.begun - job.entered):.1f}, guard;dur={1000 * produced.seconds:.1f}"
    answer = images_response(pictures, asked=asked, caller=caller, request_id=job.id)
    return JSONResponse(answer, headers={"server-timing": waited})


def recorded(job: Job) -> dict[str, Any]:
    """What an incident keeps of a request beside prompt and report."""
    assert isinstance(job.request, MakePictures)
    settings = job.request.settings
    return {
        "steps": settings.steps,
        "guidance": settings.guidance,
        "size": None if settings.size is None else f"{settings.size[0]}x{settings.size[1]}",
        "negative_prompt": settings.negative_prompt,
        "prefer": [wish if isinstance(wish, str) else "(a picture)" for wish in settings.prefer],
        "edited": settings.image is not None,
        "masked": settings.mask is not None,
        "strength": settings.strength,
    }


async def until_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for work, which is cancelled where the client goes away.

    Raises:
        ApiError: in that case, for a log that nobody else reads.
    """
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(499, "the client closed the connection", code="disconnected")
    finally:
        for task in (working, listening):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
