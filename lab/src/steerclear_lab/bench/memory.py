"""Peak memory of tensors, counted allocation by allocation, so that it is the same on every run."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, follows every storage that an operation returns until it is freed. peak: most bytes alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # what went in is not new: weights, and the caller's own tensors
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, torch.Tensor):
                self._note(given, 0)
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor):
                self._note(made, made.untyped_storage().nbytes())
        return out

    def _note(self, tensor: torch.Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        self.alive += size
        self.peak = max(self.peak, self.alive)

        def freed(key: int = key, size: int = size) -> None:
            self.alive -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.finalize(storage, freed)


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes of tensors that `work` made and held at once."""
    peak = Peak()
    with peak:
        work()
    return peak.peak


def weights(pipe: Any) -> int:
    """Bytes of the parameters of a pipeline."""
    modules = [m for m in pipe.components.values() if isinstance(m, torch.nn.Module)]
    parameters: list[torch.Tensor] = [p for m in modules for p in m.parameters()]
    return int(sum(p.numel() * p.element_size() for p in parameters))
