"""`/health`: workers, queue, versions, and whether the records are whole."""

from __future__ import annotations

import asyncio
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from steerclear.serve.errors import ApiError
from steerclear.serve.page.html import PageRoute, page
from steerclear.serve.page.visit import Visitor, visitor

if TYPE_CHECKING:
    from steerclear.serve.server import Server

router = APIRouter(prefix="/health", route_class=PageRoute)

PACKAGES = ("steerclear", "torch", "diffusers", "transformers", "lancedb", "fastapi")

Anybody = Annotated[Visitor, Depends(visitor())]
Reading = Annotated[Visitor, Depends(visitor("review", "admin"))]


@router.get("")
async def health(request: Request, who: Anybody) -> Response:
    """Everything at a glance."""
    server: Server = request.app.state.server
    known = await asyncio.to_thread(lambda: (len(server.library), server.library.version))
    values = {
        **_state(request),
        "versions": _versions(),
        "library": {"items": known[0], "version": known[1]},
        "model": _model(server.settings.model) if who.may("review", "admin") else None,
        "records": server.records is not None,
        "abilities": server.dispatcher.abilities,
        "settings": server.settings,
    }
    return page(request, "health", values)


@router.get("/state")
async def state(request: Request, who: Anybody) -> Response:
    """Workers and queue: the part of the page that changes."""
    return page(request, "_state", _state(request))


@router.post("/verify")
async def verify(request: Request, who: Reading) -> Response:
    """Read the whole chain of records again."""
    server: Server = request.app.state.server
    if server.records is None:
        raise ApiError(404, "this server keeps no records; start it with --database records.db")
    began = time.monotonic()
    verdict = await asyncio.to_thread(server.records.verify)
    return page(request, "verdict", {"verdict": verdict, "seconds": time.monotonic() - began})


def _state(request: Request) -> dict[str, Any]:
    server: Server = request.app.state.server
    dispatcher = server.dispatcher
    return {
        "ready": dispatcher.ready,
        "draining": dispatcher.draining,
        "workers": dispatcher.workers,
        "waiting": {"pictures": dispatcher.depth("pictures"), "looks": dispatcher.depth("looks")},
        "most_waiting": server.settings.queue,
    }


def _model(given: str) -> str:
    """The model as it was named; of a folder its last part."""
    path = Path(given)
    return path.name if path.exists() else given


def _versions() -> dict[str, str]:
    versions = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # run from its sources
            continue
    return versions
