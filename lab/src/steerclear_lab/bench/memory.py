"""Peak memory of tensors, counted allocation by allocation, so that it is the same on every run."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows, while active, every storage that an operation returns until it is freed.

    Attributes:
        alive: bytes alive now.
        peak: most bytes alive at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._followed: dict[int, Any] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # what went in is not new: weights, and the caller's own tensors
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, torch.Tensor):
                self._follow(value, 0)
        output = func(*args, **(kwargs or {}))
        for value in tree_leaves(output):
            if isinstance(value, torch.Tensor):
                self._follow(value, value.untyped_storage().nbytes())
        return output

    def _follow(self, tensor: torch.Tensor, size: int) -> None:
        """Count a tensor's storage, if it is new, until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._followed:
            return
        self.alive += size
        self.peak = max(self.peak, self.alive)

        def freed(key: int = key, size: int = size) -> None:
            self.alive -= size
            self._followed.pop(key, None)

        self._followed[key] = weakref.finalize(storage, freed)


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes of new tensors that are alive at once while `work` runs."""
    counter = PeakCounter()
    with counter:
        work()
    return counter.peak


def weight_bytes(pipe: Any) -> int:
    """Bytes of all parameters of a pipeline."""
    modules = [m for m in pipe.components.values() if isinstance(m, torch.nn.Module)]
    parameters: list[torch.Tensor] = [p for m in modules for p in m.parameters()]
    return int(sum(p.numel() * p.element_size() for p in parameters))
