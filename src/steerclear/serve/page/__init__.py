"""The page: what reviewers, and those who try the server, see of it in a browser.

Every route answers with HTML that works without scripts; htmx fetches the parts that change. `visit` knows
who is there, `html` writes the answers, `runs` follows requests for pictures; the others are one page each.
"""

from __future__ import annotations

from fastapi import FastAPI

from steerclear.serve.page import calibration, entrance, generate, health, incidents, library
from steerclear.serve.page.html import StaticAssets
from steerclear.serve.page.runs import Runs
from steerclear.serve.page.visit import Visits


def install(app: FastAPI) -> None:
    """Add the page to an app, beside the API."""
    app.state.visits = Visits(app.state.server)
    app.state.runs = Runs()
    for room in (entrance, generate, library, incidents, calibration, health):
        app.include_router(room.router, include_in_schema=False)
    app.mount("/static", StaticAssets(), name="static")
