"""From the queue to a worker: what waits, in order; what may be made together; and what nobody waits for."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from steerclear.serve.errors import SERVER, ApiError, too_many, unavailable
from steerclear.serve.jobs import LANES, Job, Lane
from steerclear.serve.metrics import Metrics
from steerclear.serve.process import WorkerProcess, lost
from steerclear.serve.settings import ServeSettings

LAST_WORDS = 1.0  # seconds to read what a process that has ended said before
RECENT = 0.2  # weight of the last request in the mean time that one takes


class Dispatcher:
    """The bounded queue, and the workers that take from it. It lives in the server's event loop.

    Args:
        settings: of the server.
        metrics: counts what happens.

    Attributes:
        on_unloadable: called with the reason when no worker can load the model.
        workers: the processes.
        draining: whether nothing new is taken any more.
    """

    def __init__(self, settings: ServeSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.on_unloadable: Callable[[str], None] = _ignore
        self._waiting: dict[Lane, deque[Job]] = {lane: deque() for lane in LANES}
        self._coming: dict[Lane, int] = dict.fromkeys(LANES, 0)  # whose pictures are being decoded
        self._jobs: dict[str, Job] = {}
        self._seconds = 1.0  # that a request takes a worker, as of late
        self._tasks: list[asyncio.Task[None]] = []
        self.draining = False
        self.workers = [
            WorkerProcess(i, settings, on_change=self._changed, metrics=metrics)
            for i in range(settings.workers)
        ]

    # ── its life ────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start the workers; they load the model while the server listens already."""
        self._tasks = [asyncio.create_task(worker.run()) for worker in self.workers]

    async def drain(self, seconds: float) -> None:
        """Take nothing new, and wait until everything that was taken has ended, at most so many seconds."""
        self.draining = True
        end = time.monotonic() + seconds
        while self._jobs and time.monotonic() < end:
            await asyncio.sleep(0.05)
        for job in list(self._jobs.values()):
            if not job.result.done():
                job.result.set_exception(stopping())

    async def stop(self) -> None:
        """End the workers."""
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        if self._tasks:  # what a process said last is still to be read
            await asyncio.wait(self._tasks, timeout=LAST_WORDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.recorded() for worker in self.workers))

    def kill(self) -> None:
        """End what is left of the workers' processes at once."""
        for worker in self.workers:
            worker.kill()

    # ── what it knows ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def ready(self) -> bool:
        """Whether some worker can take work."""
        return not self.draining and any(worker.state == "ready" for worker in self.workers)

    @property
    def abilities(self) -> Any | None:
        """What the model can do; None while no worker has loaded it."""
        return next((worker.abilities for worker in self.workers if worker.abilities is not None), None)

    def depth(self, lane: Lane = "pictures") -> int:
        """How many requests wait."""
        return len(self._waiting[lane])

    def place(self, job: Job) -> int:
        """How many requests are before one that waits; 0 where it is the next, or no longer waits."""
        waiting = self._waiting[job.lane]
        return waiting.index(job) if job in waiting else 0

    # ── the way of a job ────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def place_kept(self, lane: Lane) -> Iterator[None]:
        """A place in the queue for what is not decoded yet: what would be refused then need not be decoded.

        The job is to be submitted right after the block.

        Raises:
            ApiError: where the queue is full, or nothing is taken any more.
        """
        if self.draining:
            raise stopping()
        self._check_room(lane)
        self._coming[lane] += 1
        try:
            yield
        finally:
            self._coming[lane] -= 1

    def _check_room(self, lane: Lane) -> None:
        waiting = len(self._waiting[lane]) + self._coming[lane]
        if waiting >= self._settings.queue:
            raise too_many(
                f"{waiting} requests wait already, and more are not taken; come again after Retry-After",
                code="queue_full",
                retry_after=self._seconds * waiting / max(1, len(self.workers)),
            )

    def submit(self, job: Job) -> None:
        """Let a job wait for a worker.

        Raises:
            ApiError: where the queue is full, nothing is taken any more, or the id is in use.
        """
        if self.draining:
            raise stopping()
        if job.id in self._jobs:
            raise ApiError(
                409,
                f"the request id {job.id!r} is in use by another request; send another x-request-id, or none",
                code="request_id_in_use",
                headers={"x-should-retry": "false"},
            )
        self._check_room(job.lane)
        self._jobs[job.id] = job
        self._waiting[job.lane].append(job)
        self._pump()

    async def wait(self, job: Job) -> Any:
        """What becomes of a submitted job.

        When the waiting task is cancelled, because its client is gone, the job is too.

        Raises:
            ApiError: for what failed, and where it takes longer than the time limit.
        """
        left = self._settings.time_limit - (time.monotonic() - job.entered)
        try:
            return await asyncio.wait_for(asyncio.shield(job.result), max(0.0, left))
        except TimeoutError:
            where = "waiting for a worker" if job.begun is None else "at work"
            raise ApiError(
                504,
                f"the request took longer than this server's limit of {self._settings.time_limit:g} s and "
                f"was ended while {where}; ask for fewer pictures or steps, or try later",
                type=SERVER,
                code="time_limit",
                headers={"x-should-retry": "false"},
            ) from None
        finally:
            self.leave(job)

    def leave(self, job: Job) -> None:
        """Nobody waits for a job any more: forget it if it waits, and end it within a step if it runs."""
        self._jobs.pop(job.id, None)
        if job in self._waiting[job.lane]:
            self._waiting[job.lane].remove(job)
        for worker in self.workers:
            if worker.running[job.lane].get(job.number) is job and not job.result.done():
                worker.cancel(job)
        if not job.result.done():
            job.result.cancel()
        self._changed_depth()

    def abort(self, job_id: str, owner: str | None) -> bool:
        """End a job that was asked to.

        Args:
            job_id: of the request.
            owner: id of the key that sent it; None for whoever did.

        Returns:
            Whether there was such a job.
        """
        job = self._jobs.get(job_id)
        if job is None or (owner is not None and job.owner != owner):
            return False
        if job in self._waiting[job.lane]:
            self._waiting[job.lane].remove(job)
        for worker in self.workers:
            if worker.running[job.lane].get(job.number) is job:
                worker.cancel(job)
        if not job.result.done():
            job.result.set_exception(aborted())
        return True

    def _pump(self) -> None:
        """Give waiting jobs to free workers."""
        for lane in LANES:
            waiting = self._waiting[lane]
            for worker in self.workers:
                if not waiting or not worker.free(lane):
                    continue
                together = self._together(waiting)
                for job in together:
                    waiting.remove(job)
                    job.begun = time.monotonic()
                    self._metrics.queue_wait.observe(job.begun - job.entered)
                    job.result.add_done_callback(partial(self._ended, job))
                if lane == "pictures":
                    self._metrics.calls.inc()
                worker.send(together)
        self._changed_depth()

    def _together(self, waiting: Sequence[Job]) -> list[Job]:
        """The first job, and those behind it that may be made in one call with it."""
        first, *others = waiting
        together, pictures = [first], first.pictures
        for job in others:
            if pictures + job.pictures <= self._settings.batch and first.fits(job):
                together.append(job)
                pictures += job.pictures
        return together

    def _ended(self, job: Job, _: asyncio.Future[Any]) -> None:
        if job.begun is not None and not job.result.cancelled():
            taken = time.monotonic() - job.begun
            self._seconds = (1 - RECENT) * self._seconds + RECENT * taken

    def _changed(self) -> None:
        """A worker has become free, or can no longer work."""
        self._metrics.ready_workers.set(sum(worker.state == "ready" for worker in self.workers))
        if all(worker.state == "stopped" for worker in self.workers):
            for lane in LANES:
                for job in list(self._waiting[lane]):
                    if not job.result.done():
                        job.result.set_exception(lost())
            if self.workers[0].unloadable:
                self.on_unloadable(self.workers[0].unloadable)
            return
        self._pump()

    def _changed_depth(self) -> None:
        for lane in LANES:
            self._metrics.queue_depth.labels(lane).set(len(self._waiting[lane]))


def aborted() -> ApiError:
    """409 for a request that was ended on demand."""
    return ApiError(
        409,
        "the request was ended, as was asked; nothing was handed out",
        code="aborted",
        headers={"x-should-retry": "false"},
    )


def stopping() -> ApiError:
    """503 for a request that a server which stops cannot answer."""
    return unavailable(
        "the server is being stopped, and did not take or finish this request; send it again", code="stopping"
    )


def _ignore(why: str) -> None:
    """Nobody asks."""
