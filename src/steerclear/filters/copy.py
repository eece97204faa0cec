"""The copy detector over a library: what it needs of each picture is described once and kept there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steerclear import embedded
from steerclear.copy_detection import CopyDetector, ProtectedSide
from steerclear.copy_detection.features import shrunk
from steerclear.copy_detection.nominate import WIDTH, whitening_fingerprint
from steerclear.copy_detection.second_opinion import SHORT_SIDE
from steerclear.copy_detection.windows import parts
from steerclear.errors import LibraryError
from steerclear.library.latents import LatentCache
from steerclear.library.pictures import original
from steerclear.pixels import to_tensor

if TYPE_CHECKING:
    from steerclear.library import Library

AT_ONCE = 1000  # pictures whose thumbnails are in memory together


def copy_detector(
    library: Library, device: torch.device | str = "cpu", native: int | None = None
) -> CopyDetector:
    """Makes the copy detector of a library.

    Args:
        library: the protected pictures, as they are now.
        device: where pictures are compared.
        native: side in pixels of the pictures that the pipeline makes by default.

    Raises:
        LibraryError: if the library holds no picture that can be recognised.
    """
    return CopyDetector(protected_side(library, device), native=native, originals=Originals(library))


class Originals(Mapping[str, Tensor]):
    """A library's pictures (3, H, W) in [0, 1] by id, as large as the second opinion can use.

    Each is read when it is asked for: from the file that the item was added from, while that is there and
    unchanged, else the thumbnail.

    Args:
        library: the protected pictures, as they are now.
    """

    def __init__(self, library: Library) -> None:
        self._library, self._thumbnails = library, library.pictures()

    def __getitem__(self, item: str) -> Tensor:
        thumbnail = self._thumbnails[item]
        if self._library.uri == str(embedded.LIBRARY_FOLDER):
            return thumbnail  # whose thumbnails are the pictures themselves
        with suppress(LibraryError):  # the thumbnail is there
            picture = original(self._library.get(item), self._library.uri)
            if picture is not None:
                return shrunk(to_tensor([picture]), SHORT_SIDE)[0]
        return thumbnail

    def __iter__(self) -> Iterator[str]:
        return iter(self._thumbnails)

    def __len__(self) -> int:
        return len(self._thumbnails)


def protected_side(library: Library, device: torch.device | str = "cpu") -> ProtectedSide:
    """Describes the pictures of a library. What is described anew is kept in the library, if it can be
    written to.

    Args:
        library: the protected pictures, as they are now.
        device: where they are compared.

    Raises:
        LibraryError: if the library holds no picture that can be recognised.
    """
    ids = library.ids()
    sides = []
    for first in range(0, max(1, len(ids)), AT_ONCE):
        pictures = dict(zip(*library.thumbnails(ids[first : first + AT_ONCE]), strict=True))
        sides.append(_described(library, pictures, device))
    return ProtectedSide.joined(sides)


def _described(library: Library, pictures: Mapping[str, Tensor], device: torch.device | str) -> ProtectedSide:
    shipped = library.uri == str(embedded.LIBRARY_FOLDER)  # never written to
    cache = None if shipped else LatentCache(library, whitening_fingerprint())
    known: dict[str, Tensor] = {}
    if cache is not None:
        with suppress(LibraryError):  # what cannot be read is described again
            known = cache.read(list(pictures), (len(parts()), WIDTH))
    side = ProtectedSide.of(pictures, known=known, skip_blank=True, device=device)
    described = zip(side.ids, side.sought.cpu(), strict=True)
    new = {item: vectors for item, vectors in described if item not in known}
    if cache is not None and new:
        with suppress(LibraryError):  # a library that cannot be written to is only slower to open
            cache.write(new)
    return side
