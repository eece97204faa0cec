"""`/`, `/login` and `/logout`: a key is typed once, and a cookie stands for it afterwards."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from steerclear.serve.page.html import PAGES, PageRoute, page, to
from steerclear.serve.page.visit import COOKIE, Visitor, Visits, check_origin, form_of_page, visitor

router = APIRouter(route_class=PageRoute)

LOCAL = re.compile(rf"/({'|'.join(PAGES)})([/?][^\\\s]*)?")  # where a login may lead

Anybody = Annotated[Visitor, Depends(visitor())]


@router.get("/")
async def front(request: Request, who: Anybody) -> Response:
    """The first page that the visitor may see."""
    return to("/" + next(name for name, scopes in PAGES.items() if not scopes or who.may(*scopes)))


@router.get("/login")
async def ask(request: Request, next: str = "/") -> Response:
    """The form that asks for a key."""
    if request.app.state.server.settings.insecure:
        return to("/")
    return page(request, "login", {"next": next, "wrong": False})


@router.post("/login")
async def login(request: Request) -> Response:
    """Take a key; the cookie says nothing about it."""
    check_origin(request)
    visits: Visits = request.app.state.visits
    form = await form_of_page(request)
    secret, wanted = form.get("key"), form.get("next")
    cookie = await visits.begin(secret.strip()) if isinstance(secret, str) else None
    after = wanted if isinstance(wanted, str) and LOCAL.fullmatch(wanted) else "/"
    if cookie is None:
        return page(request, "login", {"next": after, "wrong": True}, status=401)
    visits.end(request.cookies.get(COOKIE, ""))
    response = to(after)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, cookie, path="/", httponly=True, samesite="strict", secure=secure)
    return response


@router.post("/logout")
async def logout(request: Request, who: Anybody) -> Response:
    """Forget the key."""
    visits: Visits = request.app.state.visits
    visits.end(request.cookies.get(COOKIE, ""))
    response = to("/login")
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response
