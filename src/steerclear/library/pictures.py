"""A library's thumbnails by id: all in memory where they are few, else read when they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from steerclear.library.store import Library

IN_MEMORY = 20_000  # thumbnails of 48 kB each
KEPT = 2048  # of those that are read one by one


class Pictures(Mapping[str, "Tensor"]):
    """Thumbnails (3, 64, 64) in [0, 1] of the library as it was when this was made."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._ids = tuple(library.ids())
        self._known = frozenset(self._ids)
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def __getitem__(self, item_id: str) -> Tensor:
        if item_id not in self._known:
            raise KeyError(item_id)
        if item_id not in self._kept:
            self._kept[item_id] = self._library.thumbnails([item_id])[1][0]
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return self._kept[item_id]

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
