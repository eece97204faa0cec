"""What the copy detector keeps of the protected pictures: a small version of each, and the vectors of its
parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from steerclear.copy_detection.align import SIDE
from steerclear.copy_detection.decide import Thresholds, textured_cells, trust
from steerclear.copy_detection.features import squared
from steerclear.copy_detection.nominate import WIDTH, describe_parts, whitening
from steerclear.copy_detection.sameness import LEAST_CONTRAST, RoughPictures, contrast
from steerclear.copy_detection.windows import parts
from steerclear.errors import InputError, LibraryError

LEAST_CELLS = 3  # of 64: a picture with fewer textured cells would match anything by its parts
LONGEST = 16  # largest aspect ratio: the longer a picture, the more windows there are
AT_ONCE = 64  # pictures described in one go
BLOCK = 1024  # pictures reduced to low resolution in one go
BLANK = "it is blank, or nearly: there is nothing in it by which a copy could be told"


@dataclass(frozen=True)
class ProtectedSide:
    """The protected pictures as the copy detector compares with them.

    Attributes:
        ids: N item ids.
        pictures: (N, 3, SIDE, SIDE) uint8.
        sought: (N, parts, WIDTH) vectors of their parts, see `describe_parts`; 0 for pictures with next to
            no edges, which are only recognised as wholes.
        unseen: id → why the picture was left out, of those that cannot be recognised.
    """

    ids: tuple[str, ...]
    pictures: Tensor
    sought: Tensor
    unseen: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        pictures: Mapping[str, Tensor],
        *,
        known: Mapping[str, Tensor] | None = None,
        skip_blank: bool = False,
        device: torch.device | str = "cpu",
    ) -> ProtectedSide:
        """Describe the protected pictures.

        Args:
            pictures: (3, H, W) in [0, 1] by id.
            known: (parts, WIDTH) vectors by id of pictures that were described before.
            skip_blank: leave out pictures that cannot be recognised, and name them in `unseen`, instead of
                refusing them.
            device: where everything is kept and compared.

        Raises:
            LibraryError: no picture, or a blank one: it would match nothing, or everything.
            InputError: a picture of another shape, or with values that are not in [0, 1].
        """
        if not pictures:
            raise LibraryError(
                "there is no protected picture; a copy filter without any would call everything clear"
            )
        small, unseen = _small_pictures(pictures, skip_blank)
        if not small:
            empty = (
                torch.empty(0, 3, SIDE, SIDE, dtype=torch.uint8),
                torch.empty(0, len(parts()), WIDTH).half(),
            )
            return cls((), pictures=empty[0].to(device), sought=empty[1].to(device), unseen=unseen)
        stacked = torch.stack(list(small.values()))
        vectors = dict(known or {})
        missing = [item for item in small if item not in vectors]
        for first in range(0, len(missing), AT_ONCE):
            batch = missing[first : first + AT_ONCE]
            pixels = _as_pixels(torch.stack([small[item] for item in batch]))
            described = describe_parts(pixels, whitening())
            described[textured_cells(pixels) < LEAST_CELLS] = 0
            vectors.update(zip(batch, described, strict=True))
        sought = torch.stack([vectors[item].half() for item in small])
        return cls(tuple(small), pictures=stacked.to(device), sought=sought.to(device), unseen=unseen)

    @classmethod
    def joined(cls, sides: Sequence[ProtectedSide]) -> ProtectedSide:
        """All pictures of some sides, whose ids differ."""
        return cls(
            tuple(item for side in sides for item in side.ids),
            pictures=torch.cat([side.pictures for side in sides]),
            sought=torch.cat([side.sought for side in sides]),
            unseen={item: why for side in sides for item, why in side.unseen.items()},
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def plain(self) -> tuple[str, ...]:
        """Ids of the pictures that are too plain, see `is_plain`."""
        trusted = [float(trust(self.pixels(torch.tensor([row])))) for row in range(len(self))]
        least = Thresholds().orientation
        return tuple(item for item, value in zip(self.ids, trusted, strict=True) if value < least)

    @cached_property
    def rough(self) -> RoughPictures:
        """The pictures at low resolution, with which pictures are first compared as a whole."""
        blocks = [
            RoughPictures.of(_as_pixels(self.pictures[first : first + BLOCK]))
            for first in range(0, len(self), BLOCK)
        ]
        return RoughPictures(torch.cat([b.rough for b in blocks]), torch.cat([b.contrast for b in blocks]))

    def pixels(self, rows: Tensor) -> Tensor:
        """(n, 3, SIDE, SIDE) in [0, 1] of the given rows."""
        return _as_pixels(self.pictures[rows])


def is_recognisable(picture: Tensor) -> bool:
    """Whether the copy detector can recognise a picture at all.

    It needs at least LEAST_CELLS textured cells of 64, or the least contrast.

    Args:
        picture: (3, H, W) in [0, 1].
    """
    small = squared(picture[None], SIDE)
    return int(textured_cells(small)) >= LEAST_CELLS or float(contrast(small)) >= LEAST_CONTRAST


def is_plain(picture: Tensor) -> bool:
    """Whether a picture is too plain, such as stripes, for a match of its edges to be trusted.

    Copies of such a picture are found only where they are unaltered, resized or recompressed.

    Args:
        picture: (3, H, W) in [0, 1].
    """
    return float(trust(squared(picture[None], SIDE))) < Thresholds().orientation


def check_pixels(pixels: Tensor, what: str) -> None:
    """Check that the copy detector can look at pixels.

    Args:
        pixels: must be floats (…, 3, H, W), finite, in [0, 1].
        what: their name in the error message.

    Raises:
        InputError: if they are not.
    """
    if not pixels.is_floating_point() or pixels.ndim < 3 or pixels.shape[-3] != 3 or not pixels.numel():
        raise InputError(
            f"{what} is {tuple(pixels.shape)} of {pixels.dtype}; "
            "the copy detector needs floats (3, height, width) in [0, 1]"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -0.01 and high <= 1.01):  # NaN fails both
        raise InputError(f"{what} has values from {low:.3g} to {high:.3g}; they must be finite and in [0, 1]")


def check_shape(pixels: Tensor, what: str) -> None:
    """Check that a picture is not too long to be looked at everywhere.

    Args:
        pixels: (…, H, W).
        what: their name in the error message.

    Raises:
        InputError: for a picture more than LONGEST times as long as wide.
    """
    height, width = pixels.shape[-2:]
    if max(height, width) > LONGEST * min(height, width):
        raise InputError(
            f"{what} has {width} × {height} pixels; the copy detector looks at pictures up to {LONGEST} "
            "times as long as wide: cut it into parts"
        )


def _small_pictures(
    pictures: Mapping[str, Tensor], skip_blank: bool
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(3, SIDE, SIDE) uint8 by id, and why each of the others was left out."""
    small, unseen = dict[str, Tensor](), dict[str, str]()
    for item, picture in pictures.items():
        check_pixels(picture, f"the protected picture {item!r}")
        pixels = squared(picture[None].cpu().float().clamp(0, 1), SIDE)
        if not is_recognisable(pixels[0]):
            if not skip_blank:
                raise LibraryError(f"the protected picture {item!r} cannot be guarded: {BLANK}; leave it out")
            unseen[item] = BLANK
            continue
        small[item] = (pixels[0] * 255).round().byte()
    return small, unseen


def _as_pixels(small: Tensor) -> Tensor:
    return small.float() / 255
