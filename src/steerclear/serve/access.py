"""Who asks, and whether they may: keys with scopes, requests a minute, and requests at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from steerclear.serve.errors import ApiError, too_many

if TYPE_CHECKING:
    from steerclear.records import Records

SCOPES = ("generate", "review", "admin")
MINUTE = 60.0
MOST_KEYS = 10_000  # whose buckets are remembered; full ones say nothing and are dropped

bearer = HTTPBearer(auto_error=False, description="A key of `steerclear keys add`.")


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Attributes:
        id: public id of the key.
        scopes: what it may do.
    """

    id: str
    scopes: frozenset[str]

    def may(self, *scopes: str) -> bool:
        """Whether it has one of these scopes."""
        return not self.scopes.isdisjoint(scopes)


NOBODY_ASKED = Caller("insecure", frozenset(SCOPES))


class Access:
    """The keys of a server, and what each has used up.

    Args:
        records: where the keys are; None for a server without keys, on which everybody may do everything.
    """

    def __init__(self, records: Records | None) -> None:
        self._records = records
        self._tokens: dict[str, tuple[float, float]] = {}  # by key: requests left, and when that was so
        self._running: Counter[str] = Counter()

    @asynccontextmanager
    async def admitted(self, secret: str | None, scopes: tuple[str, ...]) -> AsyncIterator[Caller]:
        """Who asks; until the block ends, the request counts as running.

        Args:
            secret: the key as it was sent.
            scopes: of which the key needs one.

        Raises:
            ApiError: 401 for no or a wrong key, 403 for a missing scope, 429 beyond its limits.
        """
        if self._records is None:
            yield NOBODY_ASKED
            return
        if not secret:
            raise _unauthorised("no key was sent", "missing_api_key")
        key = await asyncio.to_thread(self._records.keys.verify, secret)
        if key is None:
            raise _unauthorised("the key that was sent is unknown, expired or revoked", "invalid_api_key")
        if key.scopes.isdisjoint(scopes):
            raise ApiError(
                403,
                f"the key {key.name!r} has the scope {', '.join(sorted(key.scopes))}, and this needs "
                f"{' or '.join(scopes)}; ask whoever runs the server for such a key",
                type="permission_error",
                code="insufficient_scope",
            )
        self._take_token(key.id, key.rate)
        if key.concurrency is not None and self._running[key.id] >= key.concurrency:
            raise too_many(
                f"{key.concurrency} requests of this key are running, and more at once are not allowed; wait "
                "for one to end",
                code="concurrency_limit_exceeded",
                retry_after=1,
            )
        self._running[key.id] += 1
        try:
            yield Caller(key.id, frozenset(key.scopes))
        finally:
            self._running[key.id] -= 1
            if not self._running[key.id]:
                del self._running[key.id]

    def _take_token(self, key: str, rate: int | None) -> None:
        """Count one request against a key's rate: a bucket that holds a minute's, and fills evenly."""
        if rate is None:
            return
        now = time.monotonic()
        left, then = self._tokens.get(key, (float(rate), now))
        left = min(float(rate), left + (now - then) * rate / MINUTE)
        if left < 1:
            raise too_many(
                f"this key may send {rate} requests a minute, and has; come again after Retry-After",
                code="rate_limit_exceeded",
                retry_after=(1 - left) * MINUTE / rate,
            )
        self._tokens[key] = (left - 1, now)
        if len(self._tokens) > MOST_KEYS:
            self._tokens = {k: state for k, state in self._tokens.items() if now - state[1] < MINUTE}


def _unauthorised(message: str, code: str) -> ApiError:
    return ApiError(
        401,
        f"{message}; send a key made by `steerclear keys add` in the header Authorization: Bearer …",
        type="authentication_error",
        code=code,
        headers={"WWW-Authenticate": "Bearer"},
    )


def needs(*scopes: str) -> Callable[..., Awaitable[Any]]:
    """A dependency of a route: the caller, who has one of these scopes."""

    async def caller(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Security(bearer)],
    ) -> AsyncIterator[Caller]:
        access: Access = request.app.state.server.access
        secret = credentials.credentials if credentials else None
        async with access.admitted(secret, scopes) as admitted:
            yield admitted

    return caller  # type: ignore[return-value]


Generating = Annotated[Caller, Depends(needs("generate"))]
Looking = Annotated[Caller, Depends(needs("generate", "review"))]
Reviewing = Annotated[Caller, Depends(needs("review"))]
Administering = Annotated[Caller, Depends(needs("admin"))]
Reading = Annotated[Caller, Depends(needs("review", "admin"))]
