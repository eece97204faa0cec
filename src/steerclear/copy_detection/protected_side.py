"""What is kept of the protected pictures: a small picture of each, and its parts' vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steerclear.copy_detection.align import SIDE
from steerclear.copy_detection.decide import textured_cells
from steerclear.copy_detection.features import squared
from steerclear.copy_detection.nominate import Sought, Whitening, fit_whitening, seek
from steerclear.copy_detection.windows import symmetries
from steerclear.errors import InputError, LibraryError

LEAST_CELLS = 3  # textured cells of 64 without which a picture has nothing to be recognised by
FIT_ON = 500  # pictures that the whitening is fitted on
AT_ONCE = 64  # pictures described in one go
BLANK = "it is blank, or nearly: there is nothing in it by which a copy could be told"


@dataclass(frozen=True)
class ProtectedSide:
    """The protected pictures as the copy detector compares with them.

    ids: one for each picture; pictures: (N, 3, SIDE, SIDE) uint8; sought: their parts; whitening: what the
    parts were described with; mirrors: (S, 2, 3) the symmetries that are looked for; unseen: why each picture
    was left out that cannot be recognised.
    """

    ids: tuple[str, ...]
    pictures: Tensor
    sought: Sought
    whitening: Whitening
    mirrors: Tensor
    unseen: Mapping[str, str]

    @classmethod
    def of(
        cls,
        pictures: Mapping[str, Tensor],
        *,
        ordinary: Tensor | None = None,
        mirrored: bool = True,
        turned: bool = True,
        skip_blank: bool = False,
        device: torch.device | str = "cpu",
    ) -> ProtectedSide:
        """Describe the protected pictures.

        Args:
            pictures: (3, H, W) in [0, 1] by id.
            ordinary: (N, 3, H, W) in [0, 1] that the whitening is fitted on instead of the protected
                pictures; worth while where these are few.
            mirrored, turned: whether mirror images and quarter turns are looked for.
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
        mirrors = symmetries(mirrored, turned).to(device)
        ids, small, unseen = _small_pictures(pictures, skip_blank, device)
        sample = _as_pixels(small[:: max(1, len(small) // FIT_ON)])
        whitening = fit_whitening(sample if ordinary is None else squared(ordinary.to(device).float(), SIDE))
        return cls(ids, small, _seek(small, mirrors, whitening), whitening, mirrors, unseen)

    def with_more(self, pictures: Mapping[str, Tensor], *, skip_blank: bool = False) -> ProtectedSide:
        """The same with further pictures and the same whitening. Arguments and errors as in `of`."""
        again = sorted(set(pictures) & set(self.ids))
        if again:
            raise LibraryError(
                f"the copy detector knows {again[0]!r} already; give each protected picture one id"
            )
        if not pictures:
            return self
        ids, small, unseen = _small_pictures(pictures, skip_blank, self.pictures.device)
        more = _seek(small, self.mirrors, self.whitening)
        sought = Sought(
            torch.cat([self.sought.vectors, more.vectors]),
            torch.cat([self.sought.owners, more.owners + len(self.ids)]),
            torch.cat([self.sought.kinds, more.kinds]),
            self.sought.maps,
        )
        return replace(
            self,
            ids=(*self.ids, *ids),
            pictures=torch.cat([self.pictures, small]),
            sought=sought,
            unseen={**self.unseen, **unseen},
        )

    def __len__(self) -> int:
        return len(self.ids)

    def pixels(self, rows: Tensor) -> Tensor:
        """(n, 3, SIDE, SIDE) in [0, 1] of the given rows."""
        return _as_pixels(self.pictures[rows])

    @property
    def bytes_each(self) -> float:
        """Memory that a protected picture takes."""
        kept = (self.pictures, self.sought.vectors, self.sought.owners, self.sought.kinds)
        return sum(t.numel() * t.element_size() for t in kept) / max(1, len(self.ids))


def is_recognisable(picture: Tensor) -> bool:
    """Returns whether a picture (3, H, W) in [0, 1] has anything in it by which the copy detector could tell
    a copy: at least LEAST_CELLS textured cells of 64.
    """
    return int(textured_cells(squared(picture[None], SIDE))) >= LEAST_CELLS


def check_pixels(pixels: Tensor, what: str) -> None:
    """Raise InputError unless `pixels` (…, 3, H, W) can be looked at: floats, finite, in [0, 1]; what: its
    name in the message.
    """
    if not pixels.is_floating_point() or pixels.ndim < 3 or pixels.shape[-3] != 3 or not pixels.numel():
        raise InputError(
            f"{what} is {tuple(pixels.shape)} of {pixels.dtype}; "
            "the copy detector needs floats (3, height, width) in [0, 1]"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -0.01 and high <= 1.01):  # NaN fails both
        raise InputError(f"{what} has values from {low:.3g} to {high:.3g}; they must be finite and in [0, 1]")


def _small_pictures(
    pictures: Mapping[str, Tensor], skip_blank: bool, device: torch.device | str
) -> tuple[tuple[str, ...], Tensor, dict[str, str]]:
    ids, small, unseen = [], [], {}
    for item, picture in pictures.items():
        check_pixels(picture, f"the protected picture {item!r}")
        pixels = squared(picture[None].to(device).float().clamp(0, 1), SIDE)
        if not is_recognisable(pixels[0]):
            if not skip_blank:
                raise LibraryError(f"the protected picture {item!r} cannot be guarded: {BLANK}; leave it out")
            unseen[item] = BLANK
            continue
        ids.append(item)
        small.append((pixels * 255).round().byte())
    if not ids:
        raise LibraryError("no protected picture has anything in it by which a copy could be told")
    return tuple(ids), torch.cat(small), unseen


def _seek(small: Tensor, mirrors: Tensor, whitening: Whitening) -> Sought:
    pieces = [
        seek(_as_pixels(small[first : first + AT_ONCE]), mirrors, whitening) for first in _starts(len(small))
    ]
    owners = [piece.owners + first for piece, first in zip(pieces, _starts(len(small)), strict=True)]
    return Sought(
        torch.cat([piece.vectors for piece in pieces]),
        torch.cat(owners),
        torch.cat([piece.kinds for piece in pieces]),
        pieces[0].maps,
    )


def _starts(count: int) -> Iterator[int]:
    return iter(range(0, count, AT_ONCE))


def _as_pixels(small: Tensor) -> Tensor:
    return small.float() / 255
