"""A guard in place of its pipeline: attributes that the guard does not have are read from and set on the
pipeline.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

from torch.nn import Module

from steerclear.errors import ConfigError, SteerclearError
from steerclear.generators import PipelineRunner

# methods of a pipeline that change it, by their beginnings
CHANGING = ("enable_", "disable_", "load_", "unload_", "fuse_", "unfuse_", "set_", "delete_", "register_")

_queues: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_queues_guard = threading.Lock()


class DropIn(ABC):
    """The part of a guard that behaves like its pipeline.

    Attributes:
        runner: runs the pipeline.
    """

    _OWN: ClassVar[frozenset[str]]  # what the guard itself remembers; every other attribute is the pipeline's
    runner: PipelineRunner

    @abstractmethod
    def _runner_for(self, pipe: Any) -> PipelineRunner:
        """Make the runner of a pipeline, which is checked first."""

    @abstractmethod
    def _checked(self, name: str, value: Any) -> Any:
        """Check a value for one of the guard's own attributes."""

    @property
    def pipe(self) -> Any:
        """The pipeline itself. Images that it makes when it is called directly are not guarded."""
        return self.runner.pipe

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the pipeline, as its own `to` does, and return the guard."""
        with self._alone():
            self.pipe.to(*args, **kwargs)
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self._OWN or name.startswith("__"):  # not set yet, as while a guard is copied
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            value = getattr(self.pipe, name)
        except AttributeError:
            raise AttributeError(
                f"neither the guard nor its {type(self.pipe).__name__} has an attribute {name!r}"
            ) from None
        return self._changing(value) if name.startswith(CHANGING) and callable(value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._OWN or hasattr(type(self), name):
            object.__setattr__(self, name, self._checked(name, value))
            return
        with self._alone():  # not while a call is running
            before = getattr(self.pipe, name, None)
            try:
                setattr(self.pipe, name, value)
                # a new scheduler or network is checked as the first one was, and nothing is remembered of the
                # old one
                self.runner = self._runner_for(self.pipe)
            except Exception as error:
                setattr(self.pipe, name, before)
                if isinstance(error, SteerclearError):
                    raise
                raise ConfigError(f"{name} cannot be {value!r}: {type(error).__name__}: {error}") from error

    def __delattr__(self, name: str) -> None:
        raise ConfigError(f"{name} cannot be deleted from a guard; set it to something else")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.pipe)})

    def _changing(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a method that changes the pipeline: it waits for running calls to end, and clears what was
        cached.
        """

        @wraps(method)
        def alone(*args: Any, **kwargs: Any) -> Any:
            with self._alone():
                try:
                    return method(*args, **kwargs)
                finally:
                    self.runner = self._runner_for(self.pipe)

        return alone

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the pipeline, and every other one that shares a network or the scheduler with it.

        Hooks sit on the networks, and the scheduler carries the state of a run. So all guards that share one
        of them queue, whichever pipelines hold them. Locks are always taken in the same order, which rules
        out deadlocks.
        """
        while True:
            parts = shared_parts(self.pipe)
            with _queues_guard:
                locks = [_queues.setdefault(part, threading.RLock()) for part in parts]
            with ExitStack() as stack:
                for lock in locks:
                    stack.enter_context(lock)
                # else a part was set to another one while this call waited
                if [id(part) for part in shared_parts(self.pipe)] == [id(part) for part in parts]:
                    yield
                    return


def shared_parts(pipe: Any) -> list[Any]:
    """The networks and schedulers of a pipeline, which other pipelines may share, in a fixed order for
    locking.
    """
    components = {id(part): part for part in getattr(pipe, "components", {}).values()}
    components[id(pipe.scheduler)] = pipe.scheduler
    parts = [part for part in components.values() if isinstance(part, Module) or hasattr(part, "step")]
    return sorted({id(original): original for original in map(_original, parts)}.values(), key=id)


def _original(part: Any) -> Any:
    """The module that a compiled module wraps: both share their weights."""
    return getattr(part, "_orig_mod", part)
