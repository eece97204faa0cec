"""Requests that were sent from the page: how far each is, and its pictures until somebody has seen them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from steerclear.errors import SteerclearError
from steerclear.serve.access import Caller
from steerclear.serve.answers import Delivered, delivered
from steerclear.serve.errors import ApiError, internal, log, naming_the_field, of_steerclear
from steerclear.serve.jobs import Job, Progress
from steerclear.serve.schemas import PictureRequest

if TYPE_CHECKING:
    from steerclear.serve.server import Server

KEPT = 600.0  # seconds that pictures stay after they were made
MOST_KEPT = 32  # finished requests of the whole server
UNSEEN = 60.0  # seconds without a look after which a request is ended
LOOK_EVERY = 1.0  # seconds between two looks of the server at its requests


@dataclass(eq=False)
class Run:
    """One request for pictures, from the form to its result.

    Attributes:
        asked: what the form said.
        caller: who asked, and alone may see it.
        job: what the worker does.
        progress: the last that the worker said.
        pictures: the result; empty before it is there.
        flagged: the pictures of which the server keeps what was flagged.
        recorded: whether the server keeps incidents.
        error: why there is no result.
        seen: when somebody last looked at it, in seconds of the monotonic clock.
        ended: when it ended; None while it waits or runs.
    """

    asked: PictureRequest
    caller: Caller
    job: Job
    progress: Progress | None = None
    pictures: Sequence[Delivered] = ()
    flagged: frozenset[int] = frozenset()
    recorded: bool = False
    error: ApiError | None = None
    seen: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def id(self) -> str:
        """Names it in the page's addresses."""
        return self.job.id


class Runs:
    """All requests of the page that a server has, in its memory."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, run_id: str, caller: Caller) -> Run:
        """A request of this caller; it counts as seen.

        Raises:
            ApiError: 404 for another one's, and for one that is gone.
        """
        run = self._runs.get(run_id)
        if run is None or run.caller.id != caller.id:
            raise ApiError(
                404,
                f"there is no request {run_id[:64]!r} of this key; pictures are kept for "
                f"{KEPT / 60:g} minutes: ask for them again",
                code="not_found",
            )
        run.seen = time.monotonic()
        return run

    def begin(
        self, server: Server, run: Run, settings: dict[str, Any], holding: contextlib.AsyncExitStack
    ) -> None:
        """Submit a request, and follow it until it ends.

        Args:
            server: what makes the pictures.
            run: the request.
            settings: what an incident keeps of it.
            holding: what ends with it, such as its place among the key's concurrent requests.

        Raises:
            ApiError: where the queue is full, or the server stops.
        """

        def on_progress(progress: Progress) -> None:
            run.progress = progress

        run.job.on_progress = on_progress
        server.dispatcher.submit(run.job)
        self._forget_old()
        self._runs[run.id] = run
        task = asyncio.ensure_future(self._follow(server, run, settings, holding))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(
        self, server: Server, run: Run, settings: dict[str, Any], holding: contextlib.AsyncExitStack
    ) -> None:
        async with holding:
            waiting = asyncio.ensure_future(server.dispatcher.wait(run.job))
            try:
                while not (await asyncio.wait((waiting,), timeout=LOOK_EVERY))[0]:
                    if time.monotonic() - run.seen > UNSEEN:  # a browser that was closed; nobody waits
                        server.dispatcher.abort(run.id, None)
                produced = waiting.result()
                pictures = await delivered(
                    server,
                    run.caller,
                    request_id=run.id,
                    asked=run.asked,
                    settings=settings,
                    produced=produced,
                )
                run.flagged, run.recorded = frozenset(produced.flagged), server.records is not None
                run.pictures = pictures
            except ApiError as error:
                run.error = naming_the_field(error)
            except SteerclearError as error:
                run.error = of_steerclear(error)
            except Exception:
                log.exception("%s failed", run.id)
                run.error = internal()
            finally:
                waiting.cancel()
                run.ended = time.monotonic()

    def _forget_old(self) -> None:
        now = time.monotonic()
        over = [run for run in self._runs.values() if run.ended is not None]
        over.sort(key=lambda run: run.ended or now)
        for i, run in enumerate(over):
            if now - (run.ended or now) > KEPT or len(over) - i >= MOST_KEPT:
                del self._runs[run.id]
