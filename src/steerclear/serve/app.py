"""The whole server, put together: what every request passes, the routes, and what lives as long as it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from steerclear._version import __version__
from steerclear.library import Library
from steerclear.serve import checks, errors, health, images, incidents, library
from steerclear.serve.access import Access
from steerclear.serve.dispatch import Dispatcher
from steerclear.serve.gate import Gate
from steerclear.serve.metrics import Metrics
from steerclear.serve.server import Server
from steerclear.serve.settings import ServeSettings


def make_app(settings: ServeSettings) -> tuple[FastAPI, Server]:
    """The app of a server, and what its routes share. The workers start with the app.

    Raises:
        SteerclearError: for a library or a database that cannot be used.
    """
    opened = Library.open(settings.library)
    opened.check_holds_items()
    records = None
    if settings.database:
        from steerclear.records import Records

        records = Records.open(settings.database)
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
