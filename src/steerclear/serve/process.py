"""The server's side of a worker: start its process, send, receive, and start it again when it has ended."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import queue
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Literal

from steerclear.serve import worker
from steerclear.serve.errors import ApiError, of_failure, unavailable
from steerclear.serve.jobs import LANES, Abilities, Failure, Job, Lane, Made
from steerclear.serve.metrics import Metrics
from steerclear.serve.settings import ServeSettings

State = Literal["starting", "ready", "restarting", "stopped"]
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a process is started again
STUCK_AFTER = 120.0  # seconds that a worker may take to leave what was cancelled
END_WITHIN = 5.0  # seconds that a process has to end by itself

log = logging.getLogger("steerclear.serve")


class WorkerProcess:
    """One process that holds a model. It lives in the server's event loop, as all its methods do.

    Args:
        number: from 0.
        settings: of the server.
        on_change: called when it can take work, and when it no longer can.
        metrics: counts restarts, and work that nobody waited for.

    Attributes:
        device: where the model runs.
        state: whether it can take work.
        abilities: what the model can do; None before it was ever ready.
        running: the jobs that were sent to it, by lane.
    """

    def __init__(
        self,
        number: int,
        settings: ServeSettings,
        *,
        on_change: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        self.number = number
        self.device = settings.device_of(number)
        self.state: State = "starting"
        self.abilities: Abilities | None = None
        self.unloadable: str | None = None
        self.running: dict[Lane, dict[int, Job]] = {lane: {} for lane in LANES}
        self._settings = settings
        self._on_change = on_change
        self._metrics = metrics
        self._outbox: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._process: Any = None
        self._stopping = False
        self._recording: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """Id of the process; None before it was started."""
        return None if self._process is None else self._process.pid

    def free(self, lane: Lane) -> bool:
        """Whether it can take work of a lane now."""
        return self.state == "ready" and not self.running[lane]

    def send(self, jobs: list[Job]) -> None:
        """Have it do jobs of one lane, together."""
        lane = jobs[0].lane
        self.running[lane] = {job.number: job for job in jobs}
        work = [(job.number, job.request, job.on_progress is not None) for job in jobs]
        self._outbox.put(("work", lane, work))

    def cancel(self, job: Job) -> None:
        """Tell it that nobody waits for a job any more."""
        self._outbox.put(("cancel", job.number))
        asyncio.get_running_loop().call_later(STUCK_AFTER, self._kill_if_stuck, job)

    def _kill_if_stuck(self, job: Job) -> None:
        """End a process that has not left a job which nobody waits for; it is then started again."""
        running = self.running[job.lane]
        if running.get(job.number) is job and all(other.result.done() for other in running.values()):
            log.error("worker %d has not ended %s in %g s", self.number, job.id, STUCK_AFTER)
            self._process.kill()

    async def run(self) -> None:
        """Keep a process running until `stop`.

        A model that cannot be loaded the first time is not tried again: `unloadable` says why.
        """
        pause = FIRST_PAUSE
        while not self._stopping:
            loaded = await self._one_life()
            if self._stopping:
                break
            if not loaded and self.abilities is None:
                self.state = "stopped"
                self.unloadable = self.unloadable or "the worker process ended while the model was loaded"
                self._on_change()
                return
            pause = FIRST_PAUSE if loaded else min(pause * 2, LONGEST_PAUSE)
            self.state = "restarting"
            self._metrics.restarts.inc()
            self._on_change()
            log.warning("worker %d on %s is started again in %.1f s", self.number, self.device, pause)
            await asyncio.sleep(pause)
        self.state = "stopped"

    async def stop(self) -> None:
        """End the process; what it still does is not waited for."""
        self._stopping = True
        self._outbox.put(("stop",))
        if self._process is not None:
            await asyncio.to_thread(self._process.join, END_WITHIN)
            if self._process.is_alive():
                self._process.kill()
                await asyncio.to_thread(self._process.join)

    def kill(self) -> None:
        """End the process at once."""
        self._stopping = True
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join()

    async def _one_life(self) -> bool:
        """Start the process and serve it until it ends. Returns whether it had loaded the model."""
        loop = asyncio.get_running_loop()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._outbox = queue.SimpleQueue()
        self._process = context.Process(
            target=worker.main,
            args=(theirs, self._settings, self.device),
            name=f"steerclear-worker-{self.number}",
            daemon=True,
        )
        await asyncio.to_thread(self._process.start)
        theirs.close()
        inbox: asyncio.Queue[tuple[Any, ...] | None] = asyncio.Queue()
        threading.Thread(target=_forward, args=(self._outbox, ours), daemon=True).start()
        threading.Thread(target=_receive, args=(ours, inbox, loop), daemon=True).start()
        loaded = False
        while (message := await inbox.get()) is not None:
            loaded = loaded or message[0] == "ready"
            self._handle(message)
        self._outbox.put(None)
        await asyncio.to_thread(self._process.join)
        ours.close()
        self._abandon()
        return loaded

    def _handle(self, message: tuple[Any, ...]) -> None:
        match message:
            case ("ready", abilities):
                self.abilities, self.state = abilities, "ready"
                self._on_change()
            case ("progress", number, progress):
                job = self._job(number)
                if job is not None and job.on_progress is not None and not job.result.done():
                    job.on_progress(progress)
            case ("done", number, result):
                self._finish(number, result)
            case ("lost", why):
                log.error("worker %d lost its device %s: %s", self.number, self.device, why)
                self.state = "restarting"
                self._on_change()
            case ("unloadable", why):
                self.unloadable = why

    def _job(self, number: int) -> Job | None:
        return next((jobs[number] for jobs in self.running.values() if number in jobs), None)

    def _finish(self, number: int, result: Any) -> None:
        for jobs in self.running.values():
            job = jobs.pop(number, None)
            if job is None:
                continue
            if job.result.done():
                if isinstance(result, Made):
                    self._metrics.count_abandoned(result)
                    self._record_abandoned(job, result)
            elif isinstance(result, Failure):
                job.result.set_exception(of_failure(result))
            else:
                job.result.set_result(result)
        self._on_change()

    def _record_abandoned(self, job: Job, produced: Made) -> None:
        """Let what was flagged be recorded though nobody waits; a disk must not hold up the event loop."""
        if job.on_abandoned is None:
            return
        task = asyncio.create_task(_recorded(job, job.on_abandoned, produced))
        self._recording.add(task)
        task.add_done_callback(self._recording.discard)

    async def recorded(self) -> None:
        """Wait until all that was flagged and that nobody waited for is recorded."""
        await asyncio.gather(*self._recording)

    def _abandon(self) -> None:
        """Answer whoever waits for a process that has ended."""
        for jobs in self.running.values():
            for job in jobs.values():
                if not job.result.done():
                    job.result.set_exception(lost())
            jobs.clear()


async def _recorded(job: Job, record: Callable[[Made], None], produced: Made) -> None:
    try:
        await asyncio.to_thread(record, produced)
    except Exception:  # nobody waits for an answer; nothing was handed out
        log.exception("what was flagged of the cancelled request %s is not recorded", job.id)


def lost() -> ApiError:
    """503 for a request whose worker has ended."""
    return unavailable(
        "the worker that made this request's pictures has failed and is being started again; nothing was "
        "handed out: send the request again",
        code="worker_lost",
    )


def _forward(outbox: queue.SimpleQueue[tuple[Any, ...] | None], connection: Connection) -> None:
    """Send what is put into an outbox, in order: a large picture must not hold up the event loop."""
    while (message := outbox.get()) is not None:
        try:
            connection.send(message)
        except (OSError, ValueError):  # it has ended, which the other thread sees
            return


def _receive(
    connection: Connection, inbox: asyncio.Queue[tuple[Any, ...] | None], loop: asyncio.AbstractEventLoop
) -> None:
    """Hand on what a process sends; None when it has ended."""
    message: tuple[Any, ...] | None
    while True:
        try:
            message = connection.recv()
        except Exception:  # the end of the process, or a message that it was killed in the middle of
            message = None
        try:
            loop.call_soon_threadsafe(inbox.put_nowait, message)
        except RuntimeError:  # the server's loop has ended
            return
        if message is None:
            return
