"""A library's pictures by id: thumbnails read one by one, and the original files while they are there."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from steerclear.library.files import same_store
from steerclear.library.images import read_image
from steerclear.library.sources import read_source

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from steerclear.library.schema import Item

IN_MEMORY = 20_000  # thumbnails of 48 kB each that a library still holds in memory all together
CACHED = 2048  # thumbnails kept in memory where they are read one by one


class LazyThumbnails(Mapping[str, "Tensor"]):
    """Thumbnails (3, 64, 64) in [0, 1] by id, each read when it is first asked for.

    Args:
        ids: the ids of all items; an item that is added later is not among them.
        read: reads the thumbnail of one id.
    """

    def __init__(self, ids: Sequence[str], read: Callable[[str], Tensor]) -> None:
        self._ids = tuple(ids)
        self._id_set = frozenset(ids)
        self._read = read
        self._cache: OrderedDict[str, Tensor] = OrderedDict()

    def __getitem__(self, item_id: str) -> Tensor:
        if item_id not in self._id_set:
            raise KeyError(item_id)
        if item_id not in self._cache:
            self._cache[item_id] = self._read(item_id)
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return self._cache[item_id]

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._id_set

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


def original(item: Item, library_uri: str) -> Image.Image | None:
    """Reads the file that an item was added from, if it is still there and unchanged.

    A member of a shard and a row of a dataset have no file of their own. A library on the local disk does not
    make a request wait for the network, and one in a store reads addresses of that store alone: whoever made
    the library may be somebody else.

    Args:
        item: an item of the library.
        library_uri: the folder or address of the library.

    Returns:
        The RGB picture, or None where only the thumbnail is left.
    """
    if "://" in item.source and not same_store(item.source, library_uri):
        return None
    try:
        raw = read_source(item.source)
        return read_image(raw, name=item.source) if hashlib.sha256(raw).hexdigest() == item.sha256 else None
    except Exception:  # moved, deleted, offline, no reader for its protocol, or whatever its store raises
        return None
