"""The whole server, put together: what every request passes, the routes, and what they share."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from steerclear._version import __version__
from steerclear.library import Library
from steerclear.serve import checks, errors, health, images, incidents, library, page
from steerclear.serve.access import Access
from steerclear.serve.dispatch import Dispatcher
from steerclear.serve.gate import Gate
from steerclear.serve.metrics import Metrics
from steerclear.serve.server import Server
from steerclear.serve.settings import ServeSettings

if TYPE_CHECKING:
    from steerclear.records import Records


def _opened_records(settings: ServeSettings) -> Records:
    """The database of keys and incidents."""
    from steerclear.records import Keep, Records, read_key

    days = settings.keep_thumbnails
    keep = Keep(
        prompts="hash" if settings.keep_prompts == "hash" else "text",
        pictures=timedelta(days=days) if days else None,
        key=read_key(),
    )
    return Records.open(settings.database, keep)


def make_app(settings: ServeSettings) -> tuple[FastAPI, Server]:
    """The app of a server, and what its routes share. The workers start with the app.

    Raises:
        SteerclearError: for a library or a database that cannot be used.
    """
    tempfile.gettempdir()  # for uploads: chosen now, while there is room to try it
    opened = Library.open(settings.library)
    opened.check_holds_items()
    records = None
    if settings.database:
        records = _opened_records(settings)
    metrics = Metrics()
    dispatcher = Dispatcher(settings, metrics)
    server = Server(
        settings=settings,
        access=Access(None if settings.insecure else records),
        dispatcher=dispatcher,
        metrics=metrics,
        library=opened,
        records=records,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        dispatcher.start()
        try:
            yield
        finally:
            await dispatcher.stop()
            if records is not None:
                records.close()

    app = FastAPI(
        title="steerclear",
        version=__version__,
        summary="Guarded pictures in the OpenAI images schema.",
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
    )
    app.state.server = server
    errors.install(app)
    for room in (images, checks, library, incidents, health):
        app.include_router(room.router)
    page.install(app)
    # the last one added is the first that a request meets
    app.add_middleware(Gate, settings=settings, metrics=metrics)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
    return app, server
