"""`/library`: the protected pictures, seen, searched by picture, added, described and removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from steerclear.embedded import is_embedded_library
from steerclear.errors import LibraryError
from steerclear.serve.checks import looked
from steerclear.serve.errors import ApiError, bad_field, invalid
from steerclear.serve.jobs import Add, Search
from steerclear.serve.page.html import PageRoute, page, to
from steerclear.serve.page.visit import Visitor, Visits, form_of_page, visitor
from steerclear.serve.pictures import decode
from steerclear.serve.schemas import ItemChanges

if TYPE_CHECKING:
    from steerclear.library import Item, Library
    from steerclear.serve.server import Server

Result = TypeVar("Result")

router = APIRouter(prefix="/library", route_class=PageRoute)

ON_A_PAGE = 48
MATCHES = 8  # of a search by picture
MOST_ADDED = 64

Reading = Annotated[Visitor, Depends(visitor("review", "admin"))]
Reviewing = Annotated[Visitor, Depends(visitor("review"))]
Administering = Annotated[Visitor, Depends(visitor("admin"))]


@router.get("")
async def items(
    request: Request,
    who: Reading,
    q: str = "",
    start: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Response:
    """The protected pictures, those whose id, owner, note, caption or tags hold some words."""

    def listed(library: Library) -> dict[str, Any]:
        rows = [item for item in library.items() if _holds(item, q)]
        return {
            "items": rows[start : start + ON_A_PAGE],
            "total": len(rows),
            "library_version": library.version,
        }

    shown = await _of_library(request, listed)
    before, after = max(0, start - ON_A_PAGE), start + ON_A_PAGE
    return page(
        request,
        "library",
        {
            **shown,
            "q": q,
            "start": start,
            "before": before if start else None,
            "after": after if after < shown["total"] else None,
            "matches": None,
            "writable": _is_writable(request),
        },
    )


@router.post("/search")
async def search(request: Request, who: Reviewing) -> Response:
    """The protected pictures most like one that is sent."""
    server: Server = request.app.state.server
    visits: Visits = request.app.state.visits
    uploads = await _uploads(await form_of_page(request))
    if len(uploads) != 1:
        raise bad_field("image", f"{len(uploads)} pictures were sent; choose one")
    async with visits.admitted(who, "review") as caller:
        most = server.settings.most_upload_pixels
        image = await asyncio.to_thread(decode, uploads[0][1], "image", most_pixels=most)
        matches = await looked(server, request, caller, Search(image=image, count=MATCHES))

    def nearest_items(library: Library) -> dict[str, Any]:
        known = {item.id: item for item in library.items()}
        rows = [(known[item_id], score) for item_id, score in matches if item_id in known]
        return {"matches": rows, "total": len(known), "library_version": library.version}

    shown = await _of_library(request, nearest_items)
    values = {"items": [], "q": "", "start": 0, "before": None, "after": None}
    return page(request, "library", {**values, **shown, "writable": _is_writable(request)})


@router.post("")
async def add(request: Request, who: Administering) -> Response:
    """Add pictures; what is said beside them holds for all."""
    server: Server = request.app.state.server
    visits: Visits = request.app.state.visits
    _check_writable(request)
    form = await form_of_page(request)
    files = await _uploads(form)
    if not 1 <= len(files) <= MOST_ADDED:
        raise bad_field("image", f"{len(files)} pictures were sent; choose 1 to {MOST_ADDED}")
    known = _changes(form, ("owner", "note", "tags", "policy"))
    notes = {name: value for name, value in known.items() if value}
    async with visits.admitted(who, "admin") as caller:
        report = await looked(
            server, request, caller, Add(files=tuple(files), notes={**notes, "captions": None})
        )
    said = [f"added: {', '.join(report.added)}"] if report.added else []
    said += [f"there already: {name}" for name in report.skipped_duplicates]
    said += [f"not added: {name}: {reason}" for name, reason in report.failed]
    who.session.said = "; ".join(said)
    return to("/library")


@router.get("/items/{item_id:path}/thumbnail")
async def thumbnail(item_id: str, request: Request, who: Reviewing) -> Response:
    """A PNG of 64 × 64 pixels."""

    def read(library: Library) -> bytes:
        _item(library, item_id)
        return library.thumbnail_file(item_id)

    png = await _of_library(request, read)
    return Response(png, media_type="image/png", headers={"cache-control": "no-store"})


@router.get("/items/{item_id:path}/remove")
async def ask_to_remove(item_id: str, request: Request, who: Administering) -> Response:
    """Ask once more."""
    _check_writable(request)
    item = await _of_library(request, lambda library: _item(library, item_id))
    return page(request, "remove", {"item": item})


@router.post("/items/{item_id:path}/remove")
async def remove(item_id: str, request: Request, who: Administering) -> Response:
    """Remove an item; an earlier version of the library still has it."""
    _check_writable(request)

    def removed(library: Library) -> int:
        _item(library, item_id)
        version = library.version
        library.remove([item_id])
        return version

    version = await _of_library(request, removed)
    who.session.said = f"removed: {item_id}; `steerclear library restore {version}` brings it back"
    return to("/library")


@router.get("/items/{item_id:path}")
async def item(item_id: str, request: Request, who: Reading) -> Response:
    """One protected picture, and what is known of it."""
    shown = await _of_library(request, lambda library: _item(library, item_id))
    return page(request, "item", {"item": shown, "writable": _is_writable(request)})


@router.post("/items/{item_id:path}")
async def change(item_id: str, request: Request, who: Administering) -> Response:
    """Change what is known of an item."""
    _check_writable(request)
    changes = _changes(await form_of_page(request), ("owner", "licence", "note", "caption", "tags", "policy"))

    def changed(library: Library) -> Item:
        _item(library, item_id)
        return library.change(item_id, **changes)

    await _of_library(request, changed)
    who.session.said = "saved"
    return to(f"/library/items/{quote(item_id, safe='')}")


async def _of_library(request: Request, ask: Callable[[Library], Result]) -> Result:
    """What the library says, in a thread."""
    server: Server = request.app.state.server
    return await asyncio.to_thread(ask, server.library)


def _item(library: Library, item_id: str) -> Item:
    try:
        return library.get(item_id)
    except LibraryError as error:
        if not str(error).startswith("no item"):
            raise
        raise ApiError(404, f"no item {item_id[:120]!r} in the library", code="not_found") from error


def _holds(item: Item, words: str) -> bool:
    text = " ".join((item.id, item.owner, item.note, item.caption, *item.tags)).casefold()
    return all(word in text for word in words.casefold().split())


def _is_writable(request: Request) -> bool:
    server: Server = request.app.state.server
    return not is_embedded_library(server.library.uri)


def _check_writable(request: Request) -> None:
    if not _is_writable(request):
        raise ApiError(
            409,
            "this server runs on the embedded library, which is never changed; start it with --library and a "
            "library of your own",
            code="library_read_only",
        )


async def _uploads(form: FormData) -> list[tuple[str, bytes]]:
    """The files of a form; a field that was left empty is none."""
    sent = [value for value in form.getlist("image") if isinstance(value, UploadFile) and value.filename]
    return [(upload.filename or "image", await upload.read()) for upload in sent]


def _changes(form: FormData, names: tuple[str, ...]) -> dict[str, Any]:
    """What a form says of an item.

    Raises:
        ApiError: that names the field.
    """
    fields: dict[str, Any] = {name: value for name in names if isinstance(value := form.get(name), str)}
    if "tags" in fields:
        fields["tags"] = [tag.strip() for tag in fields["tags"].split(",") if tag.strip()]
    try:
        return ItemChanges.model_validate(fields).model_dump(exclude_none=True)
    except ValidationError as error:
        raise invalid(error.errors()) from error
