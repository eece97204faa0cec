"""Work spread over several processes, each with its share of the cores and its own model."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, TypeVar

import torch
from rich.progress import track

from steerclear.errors import SteerclearError

PATIENCE = 10.0  # seconds in which a process that is told to end may tidy up
Job = TypeVar("Job")
Result = TypeVar("Result")
Start = Callable[[], Callable[[Any], Any]]


class WorkerError(SteerclearError):
    """A process of a run could not go on; its message says why."""


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def threads(processes: int) -> int:
    """Threads of torch for each of `processes`: an equal share of the cores, at most this process's own."""
    return max(1, min(torch.get_num_threads(), cores() // processes))


def spread(
    work: Callable[[Job], Result], jobs: Iterable[Job], processes: int = 1, description: str = ""
) -> list[Result]:
    """Do each job, in several processes or in this one, behind a progress bar.

    Args:
        work: does one job. It must be a function of a module's top level, or a `partial` of one, since it is
            pickled. What a process needs once, such as a model, `work` caches for itself.
        jobs: what to do.
        processes: how many processes; with one, the work is done here.
        description: the progress bar's title.

    Returns:
        The results, in the order of the jobs.

    Raises:
        WorkerError: a job failed in another process. With one process, the job's own error is raised.
    """
    todo = list(jobs)
    if processes < 2:
        return [work(job) for job in track(todo, description)]
    results: dict[int, Result] = {}
    with Workers(partial(_numbered, work), processes) as workers:
        groups = [[numbered_job] for numbered_job in enumerate(todo)]
        for i, result in track(workers(groups), description, total=len(todo)):
            results[i] = result
    return [results[i] for i in range(len(todo))]


class Workers:
    """Processes that do jobs, for a run whose results are written down as they come.

    Use it as a context manager: at its end the processes are ended.

    Args:
        start: called once in each process; returns the function that does a job there. It, the jobs and the
            results are pickled, so it must be a function of a module's top level, or a `partial` of one.
        count: how many processes.
    """

    def __init__(self, start: Start, count: int) -> None:
        spawn = get_context("spawn")  # a fork of a process whose torch has threads may hang
        self._processes: dict[Connection, Any] = {}
        for _ in range(count):
            here, there = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(there, start, threads(count)), daemon=True)
            process.start()
            there.close()  # so that its end is seen here when the process ends
            self._processes[here] = process

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection, process in self._processes.items():
            connection.close()  # a process that waits for a job ends by itself
            if kind is not None:  # another may be in the middle of one
                process.terminate()
        for process in self._processes.values():
            process.join(PATIENCE)
            process.kill()
            process.join()

    def __call__(self, groups: Sequence[Sequence[Any]]) -> Iterator[Any]:
        """Do all jobs.

        Args:
            groups: the jobs. Those of one group are done by one process, in order.

        Yields:
            The results, as they come.

        Raises:
            WorkerError: a process failed or ended. The results until then have been yielded.
        """
        waiting = [iter(group) for group in groups]
        current = {connection: iter(()) for connection in self._processes}
        active = [connection for connection in current if self._send_next(connection, current, waiting)]
        while active:
            for connection in wait(active):
                assert isinstance(connection, Connection)
                yield self._result(connection)
                if not self._send_next(connection, current, waiting):
                    active.remove(connection)

    def _send_next(
        self,
        connection: Connection,
        current: dict[Connection, Iterator[Any]],
        waiting: list[Iterator[Any]],
    ) -> bool:
        """Send a process the next job of its group, or the first of the next group; False if none is left."""
        while True:
            for job in current[connection]:
                with suppress(BrokenPipeError):  # the process has ended: reading from it will say so
                    connection.send(job)
                return True
            if not waiting:
                return False
            current[connection] = waiting.pop(0)

    def _result(self, connection: Connection) -> Any:
        try:
            succeeded, result = connection.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes[connection]
            process.join()
            raise WorkerError(f"a process of the run ended with exit code {process.exitcode}") from None
        if not succeeded:
            raise WorkerError(f"a process of the run failed: {result}")
        return result


def _serve(connection: Connection, start: Start, thread_count: int) -> None:
    """The life of a process: start, then do jobs until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that sends the jobs
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # tidies up, unlike the default
    torch.set_num_threads(thread_count)
    try:
        work = start()
        while True:
            connection.send((True, work(connection.recv())))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        with suppress(OSError):
            last = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
            connection.send((False, message))


def _numbered(work: Callable[[Job], Result]) -> Callable[[tuple[int, Job]], tuple[int, Result]]:
    """`work` for jobs that bear their place, in a process of `spread`."""
    return lambda numbered_job: (numbered_job[0], work(numbered_job[1]))
