"""The copy detector: does a picture show any protected one, whole or in part, mirrored, turned, moved or
recoloured, and where?

Three steps: nominate, align, decide. A picture that resembles nothing is cleared after the first. Beside
them, each picture is compared as a whole with the protected ones, see `sameness`.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from steerclear.copy_detection.align import SIDE, align_coarsely, align_finely, cut_patches, levels
from steerclear.copy_detection.decide import Thresholds, agreement
from steerclear.copy_detection.features import cell_means, shrunk, squared
from steerclear.copy_detection.nominate import Looks, look, nominate, whitening
from steerclear.copy_detection.place import Evidence, Match, place_of
from steerclear.copy_detection.protected_side import ProtectedSide, check_pixels, check_shape
from steerclear.copy_detection.sameness import sameness
from steerclear.copy_detection.second_opinion import SecondOpinion
from steerclear.copy_detection.windows import native_scales, symmetries
from steerclear.errors import LibraryError

AT_ONCE = 16  # pictures described in one go
REMEMBERED = 64  # pictures whose matches are cached: several filters and steps of a request ask again
LARGE = 512  # short side in pixels up to which pictures are not shrunk
SURE = 1.1  # from this score on, no second opinion is needed


@dataclass(frozen=True, slots=True)
class Effort:
    """How thoroughly the copy detector looks before it calls a picture clear.

    Attributes:
        items: protected pictures that are nominated; more in a large library, see `for_library`.
        placements: that are kept of each nominated picture.
        near: cosine below which a nominee is dropped.
        aligned: placements that are aligned at half size, in all.
        fits: agreement at half size below which a placement is not aligned at full size.
        finished: placements that are aligned at full size, in all.
    """

    items: int = 8
    placements: int = 3
    near: float = 0.57
    aligned: int = 10
    fits: float = 0.45
    finished: int = 3

    @classmethod
    def for_library(cls, count: int) -> Effort:
        """Enough for `count` protected pictures: nominees grow with the logarithm of their number."""
        factor = 1 + max(0.0, math.log10(count / 100)) * 2 if count else 1
        base = cls()
        return replace(base, items=round(base.items * factor), aligned=round(base.aligned * factor))


@dataclass(frozen=True)
class CopyDetector:
    """Compares pictures with the protected ones.

    Attributes:
        side: the protected pictures, see `ProtectedSide.of`.
        thresholds: of each measure.
        opinion: local features; without them about half of the copies that lie under text are missed.
        native: side in pixels of the smallest copy to look for in pictures that are more than twice as large,
            usually the model's own size.
        effort: how far to look; by default as the number of protected pictures asks for.
        original_of: gives a larger version (3, H, W) of the protected picture with an id, or None; the second
            opinion sees better by it.
        mirrored: whether mirror images of the protected pictures are looked for.
        turned: whether quarter turns of them are looked for.

    Raises:
        LibraryError: if no protected picture can be recognised.
    """

    side: ProtectedSide
    thresholds: Thresholds = Thresholds()
    opinion: SecondOpinion | None = field(default_factory=SecondOpinion)
    native: int | None = None
    effort: Effort | None = None
    original_of: Callable[[str], Tensor | None] | None = field(default=None, repr=False)
    mirrored: bool = True
    turned: bool = True
    _known: OrderedDict[str, list[Match]] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not len(self.side):
            raise LibraryError(
                f"none of the {len(self.side.unseen)} protected pictures has anything in it by which an "
                "altered copy could be told: they are blank, or noise; add other pictures to the library"
            )

    @torch.no_grad()
    def look(self, images: Tensor) -> list[list[Match]]:
        """Find the protected pictures that each image shows or resembles.

        Args:
            images: (B, 3, H, W) in [0, 1], of any size and floating-point precision.

        Returns:
            For each image its matches, the best first. A match below score 1 is no copy. An image that
            resembles nothing has no matches.

        Raises:
            InputError: for values that are not finite or not in [0, 1], or pictures more than LONGEST times
                as long as wide.
        """
        check_pixels(images, "the batch of images")
        check_shape(images, "the batch of images")
        keys = [picture_key(image) for image in images]
        # other threads may drop a picture at any time
        remembered = {key: self._known.get(key) for key in keys}
        matches = {key: known for key, known in remembered.items() if known is not None}
        new = list(dict.fromkeys(key for key in keys if key not in matches))
        device = self.side.pictures.device
        mirrors, white = symmetries(self.mirrored, self.turned).to(device), whitening().to(device)
        for first in range(0, len(new), AT_ONCE):
            batch_keys = new[first : first + AT_ONCE]
            batch = images[[keys.index(key) for key in batch_keys]].to(device).float().clamp(0, 1)
            batch = shrunk(batch, self._enough(*batch.shape[-2:]))
            looks = look(batch, whitening=white, mirrors=mirrors, native=self.native)
            for key, picture, picture_looks in zip(batch_keys, batch, looks, strict=True):
                matches[key] = self._matches(picture, picture_looks)
        for key in keys:
            self._known[key] = matches[key]
        for key in list(self._known)[:-REMEMBERED]:
            self._known.pop(key, None)
        return [matches[key] for key in keys]

    @property
    def unseen(self) -> Mapping[str, str]:
        """Why a protected picture is not looked for, by its id, for those that cannot be recognised."""
        return self.side.unseen

    @property
    def plain(self) -> Sequence[str]:
        """Ids of the protected pictures of which only nearly unaltered copies are sure to be found."""
        return self.side.plain

    @property
    def looking(self) -> Effort:
        """How far this detector looks: as told, else as its number of protected pictures asks for."""
        return self.effort or Effort.for_library(len(self.side))

    def _enough(self, height: int, width: int) -> int:
        """Short side in pixels of a picture beyond which even its smallest windows gain nothing."""
        smallest = native_scales(height, width, self.native)[-1]
        return max(LARGE, round(2 * SIDE / smallest))

    def _matches(self, picture: Tensor, looks: Looks) -> list[Match]:
        effort = self.looking
        nominees = nominate(
            looks, self.side.sought, items=effort.items, each=effort.placements, keep=effort.aligned
        )
        matches = {match.id: match for match in self._as_wholes(picture)}
        near = nominees.nearness >= effort.near
        if not bool(near.any()):
            return sorted(matches.values(), key=lambda m: -m.score)
        items, pyramid = nominees.items[near], levels(picture)
        targets = self.side.pixels(items)
        placed, agreeing = align_coarsely(pyramid, targets, nominees.placed[near])
        rows = agreeing.argsort(descending=True)
        best = rows[: effort.finished]
        best = best[agreeing[best] >= effort.fits]
        if len(best):
            for match in self._aligned(
                pyramid, items[best], align_finely(pyramid, targets[best], placed[best])
            ):
                matches[match.id] = self._joined(match, matches.get(match.id))
        if self.opinion is not None and not any(m.score >= SURE for m in matches.values()):
            self._ask(
                self.opinion, picture=picture, rows=list(dict.fromkeys(items[rows].tolist())), matches=matches
            )
        return sorted(matches.values(), key=lambda m: -m.score)

    def _as_wholes(self, picture: Tensor) -> list[Match]:
        """The protected pictures that a picture may be as a whole, nearly unaltered."""
        small = squared(picture[None], SIDE)[0]
        rows = self.side.rough.nominate(small)
        place = place_of(torch.eye(2, 3), *picture.shape[-2:])
        matches = []
        for row, value in zip(rows.tolist(), sameness(small, self.side.pixels(rows)).tolist(), strict=True):
            evidence = Evidence(0.0, 0.0, sameness=value)
            matches.append(
                Match(
                    self.side.ids[row], score=self.thresholds.score(evidence), place=place, evidence=evidence
                )
            )
        return matches

    def _joined(self, match: Match, known: Match | None) -> Match:
        """A match by edges with what is known of the same protected picture as a whole."""
        if known is None or known.evidence is None or match.evidence is None:
            return match
        place = known.place if known.score > match.score else match.place
        evidence = replace(match.evidence, sameness=known.evidence.sameness)
        return Match(match.id, score=self.thresholds.score(evidence), place=place, evidence=evidence)

    def _aligned(self, pyramid: list[Tensor], items: Tensor, placed: Tensor) -> list[Match]:
        """What the measures say of placements that were aligned: the best of each protected picture."""
        cut, targets = cut_patches(pyramid, placed, SIDE), self.side.pixels(items)
        whole = agreement(cut, targets)
        half = agreement(cell_means(cut, 2), cell_means(targets, 2))
        height, width = pyramid[0].shape[-2:]
        orientation, soft = ((a + b) / 2 for a, b in zip(whole, half, strict=True))
        matches: dict[str, Match] = {}
        for i, item in enumerate(items.tolist()):
            evidence = Evidence(float(orientation[i]), float(soft[i]))
            match = Match(
                self.side.ids[item],
                score=self.thresholds.score(evidence),
                place=place_of(placed[i], height, width),
                evidence=evidence,
            )
            if match.id not in matches or matches[match.id].score < match.score:
                matches[match.id] = match
        return list(matches.values())

    def _ask(
        self, opinion: SecondOpinion, picture: Tensor, rows: list[int], matches: dict[str, Match]
    ) -> None:
        """Add to `matches` what local features say of some protected pictures."""
        points = opinion.points(picture)
        for row in rows:
            item = self.side.ids[row]
            agreeing = opinion.compare(points, item, partial(self._largest, item, row))
            known = matches.get(item, Match(item, score=0.0, place=None, evidence=Evidence(0.0, 0.0)))
            evidence = replace(known.evidence or Evidence(0.0, 0.0), inliers=agreeing.inliers)
            score = self.thresholds.score(evidence)
            place = known.place
            if agreeing.placed is not None and score > known.score:
                place = place_of(agreeing.placed, *picture.shape[-2:])
            matches[item] = Match(item, score=score, place=place, evidence=evidence)

    def _largest(self, item: str, row: int) -> Tensor:
        """The largest version (3, H, W) of a protected picture that there is."""
        original = None if self.original_of is None else self.original_of(item)
        return self.side.pixels(torch.tensor([row]))[0] if original is None else original


def picture_key(image: Tensor) -> str:
    """Tells a picture by its shape and pixels."""
    pixels = image.detach().cpu().contiguous()
    digest = hashlib.sha256(repr((tuple(pixels.shape), pixels.dtype)).encode())
    digest.update(pixels.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
