"""Answers by server-sent events: progress while a picture is made, the picture once the filters saw it.

No unfinished picture is ever sent, whatever `partial_images` says.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from fastapi import Request
from fastapi.responses import StreamingResponse

from steerclear.errors import SteerclearError
from steerclear.serve.access import Caller
from steerclear.serve.answers import Delivered, blocked, delivered
from steerclear.serve.errors import ApiError, internal, log, naming_the_field, of_steerclear
from steerclear.serve.jobs import Job, Progress
from steerclear.serve.schemas import PictureRequest

if TYPE_CHECKING:
    from steerclear.serve.server import Server

Kind = Literal["image_generation", "image_edit"]
SILENCE = 15.0  # seconds after which a comment keeps the connection open
# nothing is billed by tokens here; clients require the field
USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}


def stream(
    server: Server,
    request: Request,
    caller: Caller,
    *,
    asked: PictureRequest,
    job: Job,
    settings: dict[str, Any],
    kind: Kind,
) -> StreamingResponse:
    """Begin a streamed answer. What is refused before any work is refused by its status, not in the stream.

    Raises:
        ApiError: where the queue is full, or the server stops.
    """
    progress: asyncio.Queue[Progress] = asyncio.Queue()
    job.on_progress = progress.put_nowait
    server.dispatcher.submit(job)
    events = _events(server, caller, asked=asked, job=job, settings=settings, kind=kind, progress=progress)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return _Events(events, media_type="text/event-stream", headers=headers, server=server, job=job)


class _Events(StreamingResponse):
    """A stream whose job ends with it, however it ends: also before its first event."""

    def __init__(self, *args: Any, server: Server, job: Job, **options: Any) -> None:
        super().__init__(*args, **options)
        self._server, self._job = server, job

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        sending = asyncio.ensure_future(self.stream_response(send))
        listening = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not listening.done():
                sending.result()
        finally:
            for task in (sending, listening):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task
            self._server.dispatcher.leave(self._job)


async def _events(
    server: Server,
    caller: Caller,
    *,
    asked: PictureRequest,
    job: Job,
    settings: dict[str, Any],
    kind: Kind,
    progress: asyncio.Queue[Progress],
) -> AsyncIterator[bytes]:
    yield _event(f"{kind}.queued", {"request_id": job.id, "position": server.dispatcher.place(job)})
    waiting = asyncio.ensure_future(server.dispatcher.wait(job))
    try:
        async for state in _until(waiting, progress):
            if state is None:
                yield b": still here\n\n"
                continue
            said = {"step": state.step, "steps": state.steps, "attempt": state.attempt}
            yield _event(f"{kind}.progress", {"request_id": job.id, **said})
        pictures = await delivered(
            server, caller, request_id=job.id, asked=asked, settings=settings, produced=waiting.result()
        )
        if all(picture.b64 is None for picture in pictures):
            raise blocked(pictures, caller)
        for picture in pictures:
            yield _finished(picture, asked=asked, caller=caller, kind=kind)
    except ApiError as error:
        yield _event("error", naming_the_field(error).body)
    except SteerclearError as error:
        yield _event("error", of_steerclear(error).body)
    except Exception:
        log.exception("%s failed", job.id)
        yield _event("error", internal().body)
    finally:
        waiting.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await waiting


async def _until(
    waiting: asyncio.Future[Any], progress: asyncio.Queue[Progress]
) -> AsyncIterator[Progress | None]:
    """Progress until the result is there; None after a silence."""
    while not waiting.done():
        coming = asyncio.ensure_future(progress.get())
        done, _ = await asyncio.wait((waiting, coming), timeout=SILENCE, return_when=asyncio.FIRST_COMPLETED)
        if coming in done:
            yield coming.result()
            continue
        coming.cancel()
        if not done:
            yield None


def _finished(picture: Delivered, asked: PictureRequest, caller: Caller, kind: Kind) -> bytes:
    """The event of a picture that is handed out, or of one that is withheld."""
    if picture.b64 is None:
        return _event(f"{kind}.withheld", {"steerclear": picture.described(caller)})
    finished = {
        "b64_json": picture.b64,
        "created_at": int(time.time()),
        "background": "opaque",
        "output_format": asked.output_format,
        "quality": "auto",
        "size": picture.size,
        "usage": USAGE,
        "steerclear": picture.described(caller),
    }
    return _event(f"{kind}.completed", finished)


def _event(type: str, data: dict[str, Any]) -> bytes:
    body = json.dumps(data if type == "error" else {"type": type, **data})
    return f"event: {type}\ndata: {body}\n\n".encode()
