"""A library's pictures by id: thumbnails, all in memory where they are few, and originals while they can be read."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from steerclear.errors import SteerclearError
from steerclear.library.images import read_image
from steerclear.library.sources import discover

if TYPE_CHECKING:
    from PIL import Image
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


def original(library: Library, item_id: str) -> Image.Image | None:
    """The picture that was added, while its source can be read and has not changed; None where only a thumbnail is left.

    Of a member of a shard or a row of a dataset there is only the thumbnail, and a library on this machine's disk does not
    make a request wait for the network.
    """
    try:
        item = library.get(item_id)
        if "://" in item.source and "://" not in library.uri:
            return None
        sources, _ = discover([item.source])
        raw = sources[0].read() if len(sources) == 1 and sources[0].ref == item.source else b""
        return read_image(raw, name=item.source) if hashlib.sha256(raw).hexdigest() == item.sha256 else None
    except (
        SteerclearError,
        OSError,
        ValueError,
        ImportError,
    ):  # moved, gone, offline, no reader for its protocol
        return None
