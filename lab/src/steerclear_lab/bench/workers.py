"""The rows of a run made in several processes: each has its own model, and the process that asked writes down what they make."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, TypeVar

import torch

from steerclear.errors import SteerclearError
from steerclear_lab.bench.pool import cores

PATIENCE = 10.0  # seconds in which a process that is told to end may tidy up
Job = TypeVar("Job")
Start = Callable[[], Callable[[Any], Any]]


class WorkerError(SteerclearError):
    """A process of a run could not go on; its message says why."""


def threads(processes: int) -> int:
    """Torch's threads for each of so many processes: an equal share of the cores, and no more than this process has."""
    return max(1, min(torch.get_num_threads(), cores() // processes))


class Workers:
    """`count` processes that answer jobs.

    start: is called once in each process and gives what answers a job there; it, the jobs and the answers are pickled, so
    that it must be a function of a module, or a `partial` of one. Use as a context: at its end the processes are ended.
    """

    def __init__(self, start: Start, count: int) -> None:
        spawn = get_context("spawn")  # a fork of a process whose torch has threads may hang
        self._processes: dict[Connection, Any] = {}
        for _ in range(count):
            mine, theirs = spawn.Pipe()
            process = spawn.Process(target=_work, args=(theirs, start, threads(count)), daemon=True)
            process.start()
            theirs.close()  # so that its end is seen here when the process ends
            self._processes[mine] = process

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mine, process in self._processes.items():
            mine.close()  # one that waits for a job ends by itself
            if kind is not None:  # another may be in the middle of one
                process.terminate()
        for process in self._processes.values():
            process.join(PATIENCE)
            process.kill()
            process.join()

    def __call__(self, groups: Sequence[Sequence[Job]]) -> Iterator[Any]:
        """The answers to all jobs, as they come. The jobs of a group are answered by one process, in order.

        Raises WorkerError where a process says that it failed, or ends; what was answered until then has been given.
        """
        waiting = [iter(group) for group in groups]
        busy = {mine: iter(()) for mine in self._processes}
        left = [mine for mine in busy if self._next(mine, busy, waiting)]
        while left:
            for mine in wait(left):
                assert isinstance(mine, Connection)
                yield self._answer(mine)
                if not self._next(mine, busy, waiting):
                    left.remove(mine)

    def _next(
        self, mine: Connection, busy: dict[Connection, Iterator[Any]], waiting: list[Iterator[Any]]
    ) -> bool:
        """Give a process the next job of its group, or the first of the next group; False where there is none."""
        while True:
            for job in busy[mine]:
                with suppress(BrokenPipeError):  # it has ended: reading from it will say so
                    mine.send(job)
                return True
            if not waiting:
                return False
            busy[mine] = waiting.pop(0)

    def _answer(self, mine: Connection) -> Any:
        try:
            good, answer = mine.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes[mine]
            process.join()
            raise WorkerError(f"a process of the run ended with exit code {process.exitcode}") from None
        if not good:
            raise WorkerError(f"a process of the run failed: {answer}")
        return answer


def _work(asked: Connection, start: Start, count: int) -> None:
    """A process's life: start, then answer until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and tidies up, as it would not if it were killed
    torch.set_num_threads(count)
    try:
        answer = start()
        while True:
            asked.send((True, answer(asked.recv())))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:
        with suppress(OSError):
            last = traceback.extract_tb(error.__traceback__)[-1]
            asked.send((False, f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"))
