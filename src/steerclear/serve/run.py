"""The process that serves: started, drained at a signal, and stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from steerclear.serve.app import make_app
from steerclear.serve.dispatch import Dispatcher
from steerclear.serve.listen import listening_socket
from steerclear.serve.settings import ServeSettings

log = logging.getLogger("steerclear.serve")


class DrainingServer(uvicorn.Server):
    """uvicorn, but at the first SIGTERM or SIGINT requests that were taken may end before anything closes.

    Until then it still answers, so that `/readyz` tells a load balancer to look elsewhere. A second signal
    ends it at once.

    Args:
        config: of uvicorn.
        dispatcher: what is drained.
        seconds: how long that may take.
    """

    def __init__(self, config: uvicorn.Config, dispatcher: Dispatcher, seconds: float) -> None:
        super().__init__(config)
        self._dispatcher = dispatcher
        self._seconds = seconds
        self._drain: asyncio.Future[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: Any = None) -> None:
        """Serve until a signal, or `end`."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """What a signal does."""
        if self._drain is not None or self._loop is None:
            self.should_exit = self.force_exit = True  # the second one does not wait
            return
        self._loop.call_soon_threadsafe(self.end)

    def end(self) -> None:
        """Drain, then stop."""
        if self._drain is None:
            log.info("stopping: requests that were taken may end, at most %g s", self._seconds)
            self._drain = asyncio.ensure_future(self._drained())

    async def _drained(self) -> None:
        await self._dispatcher.drain(self._seconds)
        self.should_exit = True


def serve(settings: ServeSettings, on_listening: Callable[[str], None]) -> str | None:
    """Serve until the process is told to stop.

    Args:
        settings: the options.
        on_listening: called with the address once the server listens.

    Returns:
        Why it ended, where no worker could load the model; else None.

    Raises:
        SteerclearError: for what cannot be used: the library, the database, the port.
    """
    app, server = make_app(settings)
    socket = listening_socket(settings.host, settings.port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=30,
        ws="none",
    )
    running = DrainingServer(config, server.dispatcher, settings.drain)
    reason: list[str] = []

    def unloadable(why: str) -> None:
        reason.append(why)
        running.end()

    server.dispatcher.on_unloadable = unloadable
    host, port = socket.getsockname()[:2]
    on_listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    try:
        with socket:
            running.run(sockets=[socket])
    finally:
        server.dispatcher.kill()
    return reason[0] if reason else None
