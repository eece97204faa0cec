"""Answers in HTML: templates, the headers that every page has, and errors as pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.types import Scope

from steerclear._version import __version__
from steerclear.errors import SteerclearError
from steerclear.serve.errors import ApiError, internal, invalid, log, of_steerclear
from steerclear.serve.page.visit import PROOF_FIELD, LoginRequiredError, Visitor

STATIC = Path(__file__).parent / "static"
ASSET_SECONDS = 3600
# nothing from elsewhere, nothing inline, and in no frame
POLICY = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
# the pages, and the scopes of which a visitor needs one to see them
PAGES: dict[str, tuple[str, ...]] = {
    "generate": ("generate",),
    "library": ("review", "admin"),
    "incidents": ("review",),
    "calibration": ("review", "admin"),
    "health": (),
}

templates = Environment(
    loader=PackageLoader("steerclear.serve.page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _when(time: datetime | None) -> str:
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M UTC")


def _figure(value: Any) -> str:
    """A score or a cost, as people read it."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)


templates.filters |= {
    "percent": _percent,
    "when": _when,
    "figure": _figure,
    "path": lambda s: quote(s, safe=""),
}
templates.globals |= {"version": __version__, "token_field": PROOF_FIELD}


def page(
    request: Request, name: str, values: Mapping[str, Any] | None = None, *, status: int = 200
) -> HTMLResponse:
    """A template, filled.

    Args:
        request: what is answered.
        name: of the template, without its ending.
        values: what it shows.
        status: of the answer.
    """
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    pages = [
        title
        for title, scopes in PAGES.items()
        if visitor is not None and (not scopes or visitor.may(*scopes))
    ]
    said = ""
    if visitor is not None and not name.startswith("_"):  # a part of a page has no room for it
        said, visitor.session.said = visitor.session.said, ""
    text = templates.get_template(f"{name}.html").render(
        {
            "visitor": visitor,
            "pages": pages,
            "here": request.url.path.split("/")[1],
            "said": said,
            **(values or {}),
        }
    )
    return HTMLResponse(text, status, {"cache-control": "no-store"})


def to(path: str) -> RedirectResponse:
    """Go on to a page, after something was changed."""
    return RedirectResponse(path, 303)


class PageRoute(APIRoute):
    """A route whose errors are pages, and whose answers forbid everything from elsewhere."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """What answers a request."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                response: Response = await answer(request)
            except LoginRequiredError:
                response = _to_login(request)
            except ApiError as error:
                response = _failed(request, error)
            except RequestValidationError as error:
                response = _failed(request, invalid(error.errors()))
            except HTTPException as error:
                response = _failed(request, ApiError(error.status_code, f"{error.detail}"))
            except SteerclearError as error:
                response = _failed(request, of_steerclear(error))
            except Exception:
                log.exception("%s %s", request.method, request.url.path)
                response = _failed(request, internal())
            finally:
                await request.close()  # the files of a form
            response.headers.update(HEADERS)
            return response

        return handler


def _failed(request: Request, error: ApiError) -> Response:
    response = page(request, "error", {"error": error}, status=error.status_code)
    response.headers.update(error.headers or {})
    return response


def _to_login(request: Request) -> Response:
    if "hx-request" in request.headers:  # a part of a page cannot be a login
        return Response(status_code=401, headers={"hx-redirect": "/login"})
    if request.method != "GET":
        return to("/login")
    query = f"?{request.url.query}" if request.url.query else ""
    return to(f"/login?{urlencode({'next': f'{request.url.path}{query}'})}")


class StaticAssets(StaticFiles):
    """The scripts and styles that the pages use, from this package."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, to be kept for an hour."""
        response = await super().get_response(path, scope)
        response.headers.update({**HEADERS, "cache-control": f"public, max-age={ASSET_SECONDS}"})
        return response
