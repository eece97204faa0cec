"""Who looks at the page: a key typed once, a session that remembers it, and a token for every change."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Request

from steerclear.serve.access import NOBODY_ASKED, Caller
from steerclear.serve.errors import ApiError, check_texts
from steerclear.serve.gate import is_origin_of

if TYPE_CHECKING:
    from steerclear.serve.server import Server

COOKIE = "steerclear_session"
IDLE = 8 * 3600.0  # seconds after which an unused session ends
LONGEST = 24 * 3600.0  # seconds after which any session ends
MOST_SESSIONS = 10_000
LONGEST_SECRET = 512  # characters of a key that is tried
SAFE = ("GET", "HEAD")
PROOF_FIELD = "csrf"  # field of every form
PROOF_HEADER = "x-csrf-token"


class LoginRequiredError(Exception):
    """Nobody is logged in; the page of the login comes instead."""


@dataclass
class Session:
    """One browser that has sent a key.

    Attributes:
        secret: the key. It stays in the server's memory alone, so that a revoked key ends the session, and so
            that its limits hold here too.
        token: that every change must repeat; a foreign page cannot read it.
        began: in seconds of the monotonic clock.
        used: when it was last seen.
        said: what the next page tells, once.
    """

    secret: str | None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    began: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    said: str = ""


@dataclass(frozen=True)
class Visitor:
    """Who asks for a page.

    Attributes:
        caller: as the API knows them.
        name: of the key.
        session: of the browser.
        insecure: whether the server asks for no key.
    """

    caller: Caller
    name: str
    session: Session
    insecure: bool

    def may(self, *scopes: str) -> bool:
        """Whether the key has one of these scopes."""
        return self.caller.may(*scopes)


class Visits:
    """The sessions of a server, in its memory: a restart ends them.

    Args:
        server: whose keys are asked for.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sessions: dict[str, Session] = {}
        self._everybody = Session(None)  # of a server without keys

    async def begin(self, secret: str) -> str | None:
        """A new session's cookie; None for a key that is unknown, expired or revoked."""
        if self._server.records is None or len(secret) > LONGEST_SECRET:
            return None
        if await asyncio.to_thread(self._server.records.keys.verify, secret) is None:
            return None
        self._forget_old()
        cookie = secrets.token_urlsafe(32)
        self._sessions[cookie] = Session(secret)
        return cookie

    def end(self, cookie: str) -> None:
        """Log out."""
        self._sessions.pop(cookie, None)

    async def visitor(self, request: Request) -> Visitor:
        """Who sends a request.

        Raises:
            LoginRequiredError: without a session, and where its key is refused by now.
        """
        if self._server.settings.insecure or self._server.records is None:
            return Visitor(NOBODY_ASKED, "this machine", self._everybody, insecure=True)
        cookie = request.cookies.get(COOKIE, "")
        session = self._sessions.get(cookie)
        if session is None or session.secret is None or _is_over(session):
            raise LoginRequiredError
        key = await asyncio.to_thread(self._server.records.keys.verify, session.secret)
        if key is None:
            self.end(cookie)
            raise LoginRequiredError
        session.used = time.monotonic()
        return Visitor(Caller(key.id, frozenset(key.scopes)), key.name, session, insecure=False)

    def admitted(self, visitor: Visitor, *scopes: str) -> AbstractAsyncContextManager[Caller]:
        """Work that counts against the key's limits, see `Access.admitted`."""
        return self._server.access.admitted(visitor.session.secret, scopes)

    def _forget_old(self) -> None:
        if len(self._sessions) >= MOST_SESSIONS:
            oldest = sorted(self._sessions, key=lambda cookie: self._sessions[cookie].used)
            for cookie in oldest[: MOST_SESSIONS // 10]:
                del self._sessions[cookie]
        self._sessions = {k: session for k, session in self._sessions.items() if not _is_over(session)}


def _is_over(session: Session) -> bool:
    now = time.monotonic()
    return now - session.used > IDLE or now - session.began > LONGEST


def visitor(*scopes: str) -> Callable[[Request], Awaitable[Visitor]]:
    """A dependency of a page: the visitor, who has one of these scopes, or any where none is named.

    A request that may change something must come from this site and repeat the session's token.
    """

    async def who(request: Request) -> Visitor:
        visits: Visits = request.app.state.visits
        present = await visits.visitor(request)
        request.state.visitor = present
        if request.method not in SAFE:
            check_origin(request)
            await _check_token(request, present.session)
        if scopes and not present.may(*scopes):
            raise ApiError(
                403,
                f"the key {present.name!r} has the scope {', '.join(sorted(present.caller.scopes))}, and "
                f"this page needs {' or '.join(scopes)}; log in with another key",
                type="permission_error",
                code="insufficient_scope",
            )
        return present

    return who


def check_origin(request: Request) -> None:
    """Refuse what a browser says comes from another site.

    Raises:
        ApiError: 403.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    foreign = origin is not None and not is_origin_of(origin, request.headers.get("host"))
    if foreign or site in ("cross-site", "same-site"):
        raise _refused("the form came from another site")


async def _check_token(request: Request, session: Session) -> None:
    """Refuse a change without the session's token.

    Raises:
        ApiError: 403.
    """
    given: Any = request.headers.get(PROOF_HEADER)
    if given is None:
        given = (await form_of_page(request)).get(PROOF_FIELD)
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), session.token.encode()):
        raise _refused("the form's token is missing or out of date")


async def form_of_page(request: Request) -> Any:
    """The form of a request, read once; the route closes its files.

    Raises:
        ApiError: 400 for a text that is no valid Unicode.
    """
    form = await request.form(max_files=64, max_fields=64)
    for name, value in form.multi_items():
        check_texts({name: value if isinstance(value, str) else value.filename})
    return form


def _refused(why: str) -> ApiError:
    return ApiError(
        403, f"{why}; load the page again and repeat what you did", type="permission_error", code="csrf"
    )
