"""`/v1/library`: the protected pictures, listed, added, changed, removed, and searched by picture."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from steerclear.embedded import is_embedded_library
from steerclear.errors import LibraryError
from steerclear.serve.access import Administering, Reading, Reviewing
from steerclear.serve.checks import looked
from steerclear.serve.errors import ApiError, bad_field, invalid
from steerclear.serve.forms import files_of, form_of, uploads_of
from steerclear.serve.jobs import Add, Search
from steerclear.serve.pictures import decode
from steerclear.serve.schemas import ItemChanges

if TYPE_CHECKING:
    from steerclear.library import Item, Library
    from steerclear.serve.server import Server

Result = TypeVar("Result")

router = APIRouter(prefix="/v1/library", tags=["library"])

MOST_ADDED = 64  # pictures of one request
PICTURE = {"type": "string", "format": "binary"}


def _form(properties: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": ["image"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


async def _of_library(request: Request, ask: Callable[[Library], Result]) -> Result:
    """What the library says, in a thread."""
    server: Server = request.app.state.server
    return await asyncio.to_thread(ask, server.library)


def _item(library: Library, item_id: str) -> Item:
    """The item of an id; 404 for an unknown one."""
    try:
        return library.get(item_id)
    except LibraryError as error:
        if not str(error).startswith("no item"):
            raise
        raise ApiError(
            404,
            f"no item {item_id!r} in the library; GET /v1/library lists all",
            code="not_found",
            param="item_id",
        ) from error


def _check_writable(request: Request) -> None:
    server: Server = request.app.state.server
    if is_embedded_library(server.library.uri):
        raise ApiError(
            409,
            "this server runs on the embedded library, which is never changed; start it with --library and a "
            "library of your own",
            code="library_read_only",
        )


@router.get("")
async def list_items(
    request: Request,
    caller: Reading,
    after: Annotated[int, Query(ge=0, le=2**62, description="How many items to leave out.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    owner: str | None = None,
    tag: str | None = None,
) -> dict[str, Any]:
    """The protected pictures, in the order in which they were added."""

    def listed(library: Library) -> dict[str, Any]:
        items = [i for i in library.items() if owner in (None, i.owner) and (tag is None or tag in i.tags)]
        page = [item.to_dict() for item in items[after : after + limit]]
        return {"data": page, "total": len(items), "version": library.version}

    return await _of_library(request, listed)


@router.post(
    "",
    status_code=201,
    openapi_extra=_form(
        {"image": {"type": "array", "items": PICTURE}, **ItemChanges.model_json_schema()["properties"]}
    ),
)
async def add_items(request: Request, caller: Administering) -> JSONResponse:
    """Add pictures; what is sent beside them holds for all. One that is there already is skipped."""
    server: Server = request.app.state.server
    _check_writable(request)
    async with form_of(request) as form:
        uploads = uploads_of(form, "image")
        if not 1 <= len(uploads) <= MOST_ADDED:
            what = f"{len(uploads)} pictures were sent" if uploads else "no picture was sent"
            raise bad_field("image", f"{what} as image; send 1 to {MOST_ADDED} files as image or image[]")
        files = tuple([(name, await upload.read()) for name, upload in uploads])
        fields: dict[str, Any] = {k: v for k, v in form.multi_items() if not isinstance(v, UploadFile)}
    if isinstance(tags := fields.pop("tags", None), str):
        fields["tags"] = [tag.strip() for tag in tags.split(",") if tag.strip()]
    try:
        known = ItemChanges.model_validate(fields).model_dump(exclude_none=True)
    except ValidationError as error:
        raise invalid(error.errors()) from error
    captions = {name: known["caption"] for name, _ in files} if "caption" in known else None
    notes = {k: v for k, v in known.items() if k != "caption"} | {"captions": captions}
    report = await looked(server, request, caller, Add(files=files, notes=notes))
    answer = {
        "added": report.added,
        "skipped_duplicates": report.skipped_duplicates,
        "failed": [{"file": name, "reason": reason} for name, reason in report.failed],
    }
    if report.failed and not report.added and not report.skipped_duplicates:
        name, reason = report.failed[0]
        raise bad_field("image", f"no picture was added: {name}: {reason}; send others", code="invalid_image")
    return JSONResponse(answer, 201 if report.added else 200)


@router.post("/search", openapi_extra=_form({"image": PICTURE}))
async def search(
    request: Request,
    caller: Reviewing,
    k: Annotated[int, Query(ge=1, le=100, description="How many matches.")] = 5,
) -> dict[str, Any]:
    """The protected pictures most like one, by the cosine of the library's first encoder."""
    server: Server = request.app.state.server
    async with form_of(request) as form:
        files = await files_of(form, "image")
    if len(files) != 1:
        raise bad_field("image", f"{len(files)} pictures were sent as image; send one")
    with server.dispatcher.place_kept("looks"):
        image = await asyncio.to_thread(
            decode, files[0], "image", most_pixels=server.settings.most_upload_pixels
        )
    matches = await looked(server, request, caller, Search(image=image, count=k))
    return {"data": [{"id": item_id, "score": score} for item_id, score in matches]}


@router.get("/{item_id}")
async def get_item(item_id: str, request: Request, caller: Reading) -> dict[str, Any]:
    """One protected picture, without its pixels."""
    return (await _of_library(request, lambda library: _item(library, item_id))).to_dict()


@router.get("/{item_id}/thumbnail", response_class=Response)
async def thumbnail(item_id: str, request: Request, caller: Reviewing) -> Response:
    """A PNG of 64 × 64 pixels."""

    def read(library: Library) -> bytes:
        _item(library, item_id)
        return library.thumbnail_file(item_id)

    png = await _of_library(request, read)
    return Response(png, media_type="image/png", headers={"cache-control": "no-store"})


@router.patch("/{item_id}")
async def change_item(
    item_id: str, changes: ItemChanges, request: Request, caller: Administering
) -> dict[str, Any]:
    """Change an item's policy, note, caption, tags, owner or licence; what is left out stays."""
    _check_writable(request)

    def change(library: Library) -> Item:
        _item(library, item_id)
        return library.change(item_id, **changes.model_dump(exclude_none=True))

    return (await _of_library(request, change)).to_dict()


@router.delete("/{item_id}")
async def remove_item(item_id: str, request: Request, caller: Administering) -> dict[str, Any]:
    """Remove an item; `steerclear library restore` brings it back."""
    _check_writable(request)

    def remove(library: Library) -> int:
        _item(library, item_id)
        version = library.version
        library.remove([item_id])
        return version

    return {"id": item_id, "removed": True, "version_before": await _of_library(request, remove)}
