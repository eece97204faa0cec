"""The process that holds a model: a thread makes pictures, one looks at pictures, one listens."""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from steerclear.serve.jobs import (
    LANES,
    Add,
    Check,
    CheckTexts,
    Failure,
    Lane,
    Made,
    MakePictures,
    Progress,
    Search,
)
from steerclear.serve.settings import ServeSettings

LOST = 70  # exit code of a process whose device no longer answers
END_WITHIN = 4.0  # seconds that a process has to end by itself

log = logging.getLogger("steerclear.serve.worker")

# what the server sends: ("work", lane, [(number, request, wants progress) …]), ("cancel", number), ("stop",);
# what it is sent: ("ready", Abilities), ("progress", number, Progress), ("done", number, result),
# ("lost", message), ("unloadable", message)


def main(connection: Connection, settings: ServeSettings, device: str) -> None:
    """Load the model, and work until the server says stop or is gone.

    Args:
        connection: to the server.
        settings: of the server.
        device: where the model runs.
    """
    # Ctrl-C in a terminal and a service manager's SIGTERM reach every process of the group; the server, which
    # lets running requests end, is the one that decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    Worker(connection, settings, device).run()


class Worker:
    """The worker's side of the connection.

    Args:
        connection: to the server.
        settings: of the server.
        device: where the model runs.
    """

    def __init__(self, connection: Connection, settings: ServeSettings, device: str) -> None:
        self._connection = connection
        self._settings = settings
        self._device = device
        self._sending = threading.Lock()
        self._cancelled: set[int] = set()
        self._running: set[int] = set()
        self._waiting: dict[Lane, queue.SimpleQueue[list[tuple[int, Any, bool]] | None]] = {
            lane: queue.SimpleQueue() for lane in LANES
        }

    def run(self) -> None:
        """Load, say so, and work for as long as the process lives."""
        threading.Thread(target=self._listen, name="listen", daemon=True).start()
        try:
            guards = self._load()
        except Exception as error:
            self._fail_to_load(error)
            return
        threading.Thread(target=self._work, args=("looks", guards), name="looks", daemon=True).start()
        self._work("pictures", guards)
        os._exit(0)  # taking a model apart would take seconds

    def _load(self) -> Any:
        from steerclear._imports import collector_paused

        with collector_paused():
            from steerclear.serve.pipelines import ServedGuards, quiet

        quiet()
        guards = ServedGuards(self._settings, self._device)
        self._send("ready", guards.abilities())
        return guards

    def _fail_to_load(self, error: Exception) -> None:
        from steerclear.errors import SteerclearError

        if not isinstance(error, SteerclearError):
            log.exception("the model cannot be loaded")
        self._send(
            "unloadable",
            f"{error}" if isinstance(error, SteerclearError) else f"{type(error).__name__}: {error}",
        )

    # ── messages ────────────────────────────────────────────────────────────────────────────────────────────

    def _listen(self) -> None:
        """Take what the server sends. Where it is gone, nobody waits for anything: the process ends."""
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                message = ("stop",)
            if message[0] == "work":
                _, lane, jobs = message
                self._running.update(number for number, _, _ in jobs)
                self._waiting[lane].put(jobs)
            elif message[0] == "cancel":
                if message[1] in self._running:
                    self._cancelled.add(message[1])
            else:
                self._end()
                return

    def _end(self) -> None:
        """Leave what runs at its next step, and then the process; where that does not come, leave at once."""
        self._cancelled |= self._running
        for waiting in self._waiting.values():
            waiting.put(None)
        time.sleep(END_WITHIN)
        os._exit(0)

    def _send(self, *message: Any) -> None:
        with self._sending:
            try:
                self._connection.send(message)
            except (BrokenPipeError, ConnectionError):
                os._exit(0)

    # ── work ────────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self, lane: Lane, guards: Any) -> None:
        """Do one message's jobs after the other."""
        do = self._make if lane == "pictures" else self._look
        while (jobs := self._waiting[lane].get()) is not None:
            results = self._results(guards, jobs, do)
            for (number, _, _), result in zip(jobs, results, strict=True):
                self._running.discard(number)
                self._cancelled.discard(number)
                self._send("done", number, result)

    def _results(
        self, guards: Any, jobs: list[tuple[int, Any, bool]], do: Callable[[Any, Any], list[Any]]
    ) -> list[Any]:
        """What became of the jobs: results, or failures. A device that is lost ends the process."""
        import torch

        from steerclear.errors import DeviceLostError, ImageError, InputError, SteerclearError

        try:
            return do(guards, jobs)
        except DeviceLostError as error:
            log.error("%s", error)
            self._send("lost", str(error))
            os._exit(LOST)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            failure = Failure("memory", "the device has too little memory for this request")
        except ImageError as error:
            failure = Failure("image", str(error))
        except InputError as error:
            failure = Failure("input", str(error))
        except SteerclearError as error:
            failure = Failure("unavailable", str(error))
        except Exception as error:
            log.exception("a request failed")
            failure = Failure("internal", type(error).__name__)
        return [failure] * len(jobs)

    def _make(self, guards: Any, jobs: list[tuple[int, MakePictures, bool]]) -> list[Made]:
        numbers = [number for number, _, _ in jobs]

        def progress(i: int, state: Progress) -> None:
            if jobs[i][2]:
                self._send("progress", numbers[i], state)

        cancelled = [_asks(self._cancelled, number) for number in numbers]
        produced: list[Made] = guards.make([request for _, request, _ in jobs], cancelled, progress)
        return produced

    def _look(self, guards: Any, jobs: list[tuple[int, Any, bool]]) -> list[Any]:
        return [_looked(guards, request) for _, request, _ in jobs]


def _looked(guards: Any, request: Check | CheckTexts | Search | Add) -> Any:
    match request:
        case Check():
            return guards.check(request)
        case CheckTexts():
            return guards.check_texts(request)
        case Search():
            return guards.search(request)
        case Add():
            return guards.add(request)


def _asks(cancelled: set[int], number: int) -> Callable[[], bool]:
    return lambda: number in cancelled
