"""The copy detector over a library: what it needs of each picture is described once and kept there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steerclear.copy_detection import CopyDetector, Match, ProtectedSide, SecondOpinion, is_recognisable
from steerclear.copy_detection.detector import REMEMBERED, picture_key
from steerclear.copy_detection.features import shrunk
from steerclear.copy_detection.nominate import WIDTH, whitening_fingerprint
from steerclear.copy_detection.protected_side import check_pixels, check_shape
from steerclear.copy_detection.second_opinion import SHORT_SIDE
from steerclear.copy_detection.windows import parts, sample
from steerclear.embedded import is_embedded_library
from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import LibraryError
from steerclear.library.latents import LatentCache
from steerclear.library.pictures import original
from steerclear.pixels import to_tensor

if TYPE_CHECKING:
    from steerclear.library import Library
    from steerclear.library.approximate import LanceIndex
    from steerclear.library.search import Index

AT_ONCE = 1000  # pictures whose thumbnails are in memory together
NOMINATED = 5  # nominated items per view of a picture, in a library that is too large for memory
# the whole picture and five parts of it, as maps from the square to the picture
VIEWS = torch.tensor(
    [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [[0.6, 0.0, 0.0], [0.0, 0.6, 0.0]],
        [[0.6, 0.0, -0.4], [0.0, 0.6, -0.4]],
        [[0.6, 0.0, 0.4], [0.0, 0.6, -0.4]],
        [[0.6, 0.0, -0.4], [0.0, 0.6, 0.4]],
        [[0.6, 0.0, 0.4], [0.0, 0.6, 0.4]],
    ]
)


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
    original_of = partial(original_pixels, library)
    return CopyDetector(protected_side(library, device), native=native, original_of=original_of)


def original_pixels(library: Library, item: str) -> Tensor | None:
    """Reads the file that an item was added from.

    Args:
        library: the protected pictures.
        item: an id.

    Returns:
        (3, H, W) in [0, 1], as large as the second opinion can use; None where the file is gone or changed,
        and for the embedded library, whose thumbnails are as large.
    """
    if is_embedded_library(library.uri):
        return None
    with suppress(LibraryError):  # the thumbnail is there
        picture = original(library.get(item), library.uri)
        if picture is not None:
            return shrunk(to_tensor([picture]), SHORT_SIDE)[0]
    return None


class IndexedCopyDetector:
    """The copy detector of a library that is too large to hold: an encoder nominates the protected pictures.

    It looks at the picture, five parts of it, and the mirror images of these, and the nearest items of each
    are compared. It misses more than the detector that compares with every item.

    Args:
        library: the protected pictures, as they are now.
        encoder: embeds the views.
        index: the items' vectors, made by this very encoder.
        native: side in pixels of the pictures that the pipeline makes by default.
        device: where pictures are compared.
    """

    def __init__(
        self,
        library: Library,
        encoder: Encoder,
        index: Index | LanceIndex,
        *,
        native: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._encoder, self._index, self._native, self._device = encoder, index, native, device
        self._thumbnails, self._original_of = library.pictures(), partial(original_pixels, library)
        self._opinion = SecondOpinion()
        self._detectors: OrderedDict[str, CopyDetector | None] = OrderedDict()

    unseen: Mapping[str, str] = MappingProxyType({})  # nobody has looked at every picture
    plain: Sequence[str] = ()

    def look(self, images: Tensor) -> list[list[Match]]:
        """The protected pictures that each image shows or resembles; as of `CopyDetector`."""
        check_pixels(images, "the batch of images")
        check_shape(images, "the batch of images")
        matches = []
        for image in images:
            detector = self._detector(image)
            matches.append([] if detector is None else detector.look(image[None])[0])
        return matches

    def _detector(self, image: Tensor) -> CopyDetector | None:
        """Of the items that may be shown in an image (3, H, W); None where none of them can be recognised."""
        key = picture_key(image)
        if key in (known := dict(self._detectors)):  # other threads may drop a picture at any time
            return known[key]
        thumbnails = {item: self._thumbnails[item] for item in self._nominees(image)}
        recognisable = {item: picture for item, picture in thumbnails.items() if is_recognisable(picture)}
        detector = None
        if recognisable:
            side = ProtectedSide.of(recognisable, device=self._device)
            detector = CopyDetector(
                side, opinion=self._opinion, native=self._native, original_of=self._original_of
            )
        self._detectors[key] = detector
        for old in list(self._detectors)[:-REMEMBERED]:
            self._detectors.pop(old, None)
        return detector

    def _nominees(self, image: Tensor) -> list[str]:
        views = sample(image[None].float().clamp(0, 1), VIEWS.to(image.device), self._encoder.size)[0]
        views = torch.cat([views, views.flip(-1)])
        embeddings = check_embedding(self._encoder(views), self._encoder, len(views))
        nearest = self._index.matches(embeddings, NOMINATED)
        return list(dict.fromkeys(item for row in nearest for item, _ in row))


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
    shipped = is_embedded_library(library.uri)
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
