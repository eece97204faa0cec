"""What every request passes first: a name, a limit on its body, and without keys a look at its origin."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steerclear.serve.errors import ApiError, internal, log
from steerclear.serve.metrics import Metrics
from steerclear.serve.settings import LOOPBACK, ServeSettings

BODY_WITHIN = 60.0  # seconds that the next piece of a body may take
ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Gate:
    """ASGI middleware. `scope["state"]["id"]` names the request afterwards, and so does its x-request-id.

    Args:
        app: what comes next.
        settings: of the server.
        metrics: counts the request.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, begun = time.monotonic(), 500, False
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if ID.fullmatch(given) else f"req-{secrets.token_hex(12)}"
        scope.setdefault("state", {})["id"] = request_id

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                named = (b"x-request-id", request_id.encode())
                safe = (b"x-content-type-options", b"nosniff")
                message = {**message, "headers": [*message["headers"], named, safe]}
            await send(message)

        try:
            self._check(scope, headers)
            body = _Body(receive, self._settings.most_bytes)
            await self._app(scope, body.receive, answer)
        except ApiError as error:
            await error.response(scope, receive, answer)
        except Exception:
            # the framework's own handler is outside of this one, and would answer without the request's id
            log.exception("%s %s %s", request_id, scope["method"], scope["path"])
            if begun:
                raise
            await internal().response(scope, receive, answer)
        finally:
            taken = time.monotonic() - began
            route = scope.get("route")
            path = getattr(route, "path", "other")
            self._metrics.requests.labels(path, _outcome(status)).inc()
            self._metrics.seconds.labels(path).observe(taken)
            if path.startswith("/v1"):
                log.info("%s %s %s %d %.3f s", request_id, scope["method"], path, status, taken)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        """Refuse what need not be read.

        Raises:
            ApiError: 413 for a body that says it is too long, 403 for what a foreign page sends.
        """
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self._settings.most_bytes:
            raise too_long(int(length), self._settings.most_bytes)
        if self._settings.insecure:
            _check_local(headers)


class _Body:
    """A request's body as it is received: not longer, and not slower, than it may be."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._read = 0
        self._whole = False

    async def receive(self) -> Message:
        """The next message.

        Raises:
            ApiError: 413 for a body that is too long, 408 for one that does not come.
        """
        if self._whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), BODY_WITHIN)
        except TimeoutError:
            raise ApiError(
                408, f"the body did not come within {BODY_WITHIN:g} s; send it faster", code="slow_body"
            ) from None
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._read > self._most:
                raise too_long(self._read, self._most)
        return message


def too_long(length: int, most: int) -> ApiError:
    """413 for a body beyond the limit."""
    return ApiError(
        413,
        f"the body has {length:,} bytes or more; {most:,} is the most here: send smaller or fewer pictures",
        code="body_too_large",
        headers={"connection": "close"},
    )


def _check_local(headers: dict[str, str]) -> None:
    """Refuse what another site's page could have this machine's browser send to a server without keys.

    Raises:
        ApiError: for a Host or an Origin that is not this machine's.
    """
    host = headers.get("host", "")
    if hostname_of(host) not in LOOPBACK:
        raise _foreign("Host", host)
    origin = headers.get("origin")
    if origin is not None and not is_origin_of(origin, host):
        raise _foreign("Origin", origin)


def hostname_of(host: str) -> str | None:
    """The name in a Host header, without its port; None where it is no host at all."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:  # such as "[", the beginning of an IPv6 address
        return None


def is_origin_of(origin: str, host: str | None) -> bool:
    """Whether an Origin header names the host of a Host header; not where either cannot be read."""
    try:
        place = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(place) and place == host


def _foreign(name: str, value: str) -> ApiError:
    return ApiError(
        403,
        f"the header {name} is {value[:100]!r}; a server without keys answers this machine alone, at "
        "http://127.0.0.1",
        type="permission_error",
        code="not_local",
    )


def _outcome(status: int) -> str:
    """A word for a status: what a graph shows."""
    words: dict[int, Any] = {429: "too_many", 503: "unavailable", 504: "time_limit", 499: "disconnected"}
    if status in words:
        return str(words[status])
    return "ok" if status < 400 else "refused" if status < 500 else "failed"
