"""`/generate`: a form, its progress, and what came of it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from steerclear.serve import images
from steerclear.serve.errors import ApiError, invalid
from steerclear.serve.page.html import PageRoute, page, to
from steerclear.serve.page.runs import Run, Runs
from steerclear.serve.page.visit import Visitor, Visits, form_of_page, visitor
from steerclear.serve.schemas import PictureRequest

if TYPE_CHECKING:
    from steerclear.serve.answers import Delivered
    from steerclear.serve.server import Server

router = APIRouter(prefix="/generate", route_class=PageRoute)

Generating = Annotated[Visitor, Depends(visitor("generate"))]
# fields of the form; what is left empty is the server's to choose
FIELDS = ("prompt", "negative_prompt", "n", "size", "num_inference_steps", "seed", "guidance_scale", "prefer")


@router.get("")
async def form(request: Request, who: Generating) -> Response:
    """The form; what the address names is filled in."""
    given = {name: request.query_params.get(name, "") for name in FIELDS}
    return _form(request, given, run=None)


@router.post("")
async def begin(request: Request, who: Generating) -> Response:
    """Ask for pictures; the answer leads to their progress."""
    server: Server = request.app.state.server
    visits: Visits = request.app.state.visits
    runs: Runs = request.app.state.runs
    sent = await form_of_page(request)
    given = {name: value if isinstance(value := sent.get(name), str) else "" for name in FIELDS}
    async with contextlib.AsyncExitStack() as holding:
        try:
            caller = await holding.enter_async_context(visits.admitted(who, "generate"))
            asked = _asked(given, await _preferred_picture(sent))
            settings = await images.settings_of(server, asked)
            job = images.job_of(server, request=request, caller=caller, asked=asked, settings=settings)
            run = Run(asked, caller, job)
            runs.begin(server, run, images.recorded(job), holding.pop_all())
        except ApiError as error:
            return _form(request, given, run=None, error=error)
    return to(f"/generate/{run.id}")


@router.get("/{run_id}")
async def result(run_id: str, request: Request, who: Generating) -> Response:
    """The form as it was sent, and below it the progress or the result."""
    run = _run(run_id, request, who)
    asked = run.asked
    given = {
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "n": str(asked.n),
        "size": "" if asked.size is None else f"{asked.size[0]}x{asked.size[1]}",
        "num_inference_steps": _text(asked.num_inference_steps),
        "seed": _text(asked.seed),
        "guidance_scale": _text(asked.guidance_scale),
        "prefer": next((wish for wish in asked.prefer if not wish.startswith("data:")), ""),
    }
    return _form(request, given, run=run)


@router.get("/{run_id}/progress")
async def progress(run_id: str, request: Request, who: Generating) -> Response:
    """The part of the page that changes."""
    run = _run(run_id, request, who)
    return page(request, "_run", _shown(request, run))


@router.post("/{run_id}/cancel")
async def cancel(run_id: str, request: Request, who: Generating) -> Response:
    """End a request that waits or runs."""
    server: Server = request.app.state.server
    run = _run(run_id, request, who)
    server.dispatcher.abort(run.id, run.caller.id)
    for _ in range(50):  # it ends at once; its task notices soon
        if run.ended is not None:
            break
        await asyncio.sleep(0.02)
    return to(f"/generate/{run.id}")


@router.get("/{run_id}/{index}.png")
async def picture(run_id: str, index: int, request: Request, who: Generating) -> Response:
    """A picture that was handed out."""
    pictures = _run(run_id, request, who).pictures
    b64 = pictures[index].b64 if 0 <= index < len(pictures) else None
    if b64 is None:
        raise ApiError(404, f"request {run_id!r} has handed out no picture {index}", code="not_found")
    return Response(base64.b64decode(b64), media_type="image/png", headers={"cache-control": "no-store"})


def _run(run_id: str, request: Request, who: Visitor) -> Run:
    runs: Runs = request.app.state.runs
    return runs.get(run_id, who.caller)


def _asked(given: dict[str, str], preferred: str | None) -> PictureRequest:
    """The form as the API would have it.

    Raises:
        ApiError: that names the field.
    """
    fields: dict[str, Any] = {name: value.strip() for name, value in given.items() if value.strip()}
    wishes = [fields.pop("prefer")] if "prefer" in fields else []
    fields["prefer"] = [*wishes, preferred] if preferred is not None else wishes
    try:
        return PictureRequest.model_validate({"prompt": "", **fields, "output_format": "png"})
    except ValidationError as error:
        raise invalid(error.errors()) from error


async def _preferred_picture(sent: FormData) -> str | None:
    """An uploaded picture as the data: URL that the API takes."""
    upload = sent.get("prefer_picture")
    if not isinstance(upload, UploadFile) or not (raw := await upload.read()):
        return None
    return f"data:image;base64,{base64.b64encode(raw).decode()}"


def _form(
    request: Request, given: dict[str, str], *, run: Run | None, error: ApiError | None = None
) -> Response:
    server: Server = request.app.state.server
    values = {
        "given": given,
        "error": error,
        "limits": server.settings,
        "abilities": server.dispatcher.abilities,
        **_shown(request, run),
    }
    status = 200 if error is None else error.status_code
    return page(request, "generate", values, status=status)


def _shown(request: Request, run: Run | None) -> dict[str, Any]:
    """What the part of the page shows that changes."""
    if run is None:
        return {"run": None}
    server: Server = request.app.state.server
    who: Visitor = request.state.visitor
    return {
        "run": run,
        "place": server.dispatcher.place(run.job),
        "results": [_result(run, who, picture) for picture in run.pictures],
    }


def _result(run: Run, who: Visitor, picture: Delivered) -> dict[str, Any]:
    """One picture, as far as the visitor's scopes go."""
    reviewed = run.recorded and picture.report_id.startswith("inc-") and who.may("review")
    hidden = {"matched": None, "attempts": (), "reason": None}  # without the scope review
    return {**hidden, **picture.described(who.caller)} | {
        "handed_out": picture.b64 is not None,
        "size": picture.size,
        "incident": picture.report_id if reviewed else None,
        "before_kept": reviewed and picture.index in run.flagged,
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)
