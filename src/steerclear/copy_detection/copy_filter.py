"""The copy detector as a filter: is any protected picture shown in this one, whole or in part, mirrored,
turned, moved or recoloured?

Nominate, align, decide; a picture that comes near to nothing leaves after the first look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from steerclear.copy_detection.align import SIDE, align, cut_patches, levels
from steerclear.copy_detection.decide import Thresholds, agreement
from steerclear.copy_detection.features import cell_means
from steerclear.copy_detection.nominate import Looks, look, nominate
from steerclear.copy_detection.place import Evidence, Match, Place
from steerclear.copy_detection.protected_side import ProtectedSide, check_pixels
from steerclear.copy_detection.second_opinion import SecondOpinion, second_opinion
from steerclear.errors import InputError
from steerclear.types import Detection

AT_ONCE = 16  # pictures described in one go


class HoldsPictures(Protocol):
    """What a library is to the copy detector."""

    def pictures(self) -> Mapping[str, Tensor]:
        """Pictures (3, H, W) in [0, 1] by id."""
        ...


@dataclass(frozen=True, slots=True)
class Effort:
    """How far the copy detector looks before it calls a picture clear.

    items: protected pictures nominated, more in a large library (see `for_library`); placements: of each;
    aligned: placements aligned at half size in all; finished: of these at full size; near: cosine below which
    a nominee is not aligned;
    worth_asking: cosine below which no second opinion is asked about it.
    """

    items: int = 8
    placements: int = 3
    aligned: int = 10
    finished: int = 3
    near: float = 0.48
    worth_asking: float = 0.55

    @classmethod
    def for_library(cls, count: int) -> Effort:
        """Enough for `count` protected pictures: nominees grow with the logarithm of their number."""
        factor = 1 + max(0.0, math.log10(count / 100)) * 2 if count else 1
        base = cls()
        return replace(base, items=round(base.items * factor), aligned=round(base.aligned * factor))


@dataclass(frozen=True)
class CopyFilter:
    """Flags a picture that shows a protected one.

    side: the protected pictures, see `ProtectedSide.of`. thresholds: of each measure. threshold: the score is
    the evidence over its thresholds, so that 1 is the point where a picture counts as a copy; below 1 is
    stricter. opinion: local features, by default wherever OpenCV is installed; without it about half of the
    copies that lie under text are missed. native: side in pixels of the smallest copy to look for in pictures
    that are more than twice as large, usually the model's own size.
    originals: larger versions of the protected pictures by id, which the second opinion sees better by.
    """

    side: ProtectedSide
    thresholds: Thresholds = Thresholds()
    threshold: float = 1.0
    opinion: SecondOpinion | None = field(default_factory=second_opinion)
    native: int | None = None
    effort: Effort | None = None
    originals: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    name: str = "copy"
    cost: ClassVar[str] = "library"

    @classmethod
    def of(
        cls,
        protected: Mapping[str, Tensor] | HoldsPictures,
        *,
        skip_blank: bool = False,
        mirrored: bool = True,
        turned: bool = True,
        device: torch.device | str = "cpu",
        thresholds: Thresholds | None = None,
        threshold: float = 1.0,
        native: int | None = None,
    ) -> CopyFilter:
        """A filter for pictures (3, H, W) in [0, 1] by id, or for all that a library holds now.

        Args:
            protected: the pictures. Those of a library are its thumbnails.
            skip_blank, mirrored, turned, device: see `ProtectedSide.of`.
            thresholds, threshold, native: see the class.

        Raises:
            LibraryError: no picture, or a blank one.
        """
        pictures = protected if isinstance(protected, Mapping) else protected.pictures()
        side = ProtectedSide.of(
            pictures, mirrored=mirrored, turned=turned, skip_blank=skip_blank, device=device
        )
        return cls(side, thresholds or Thresholds(), threshold, native=native, originals=pictures)

    def check(self, images: Tensor) -> list[Detection]:
        """images: (B, 3, H, W) in [0, 1]. One detection per image; one that cannot be looked at is flagged
        with its reason.
        """
        detections: list[Detection | None] = [None] * len(images)
        for i, image in enumerate(images):
            try:
                check_pixels(image, f"image {i}")
            except InputError as error:
                detections[i] = Detection(self.name, True, math.nan, self.threshold, error=str(error))
        seen = [i for i, detection in enumerate(detections) if detection is None]
        for i, matches in zip(seen, self.look(images[seen]) if seen else [], strict=True):
            detections[i] = self._detection(matches)
        return [detection for detection in detections if detection is not None]

    @torch.no_grad()
    def look(self, images: Tensor) -> list[list[Match]]:
        """The protected pictures that each image shows or resembles, best first.

        Args:
            images: (B, 3, H, W) in [0, 1], of any size and floating-point precision.

        Returns:
            For each image its matches, clear ones with a score below 1 among them; none where nothing came
            near.

        Raises:
            InputError: values that are not finite or not in [0, 1].
        """
        check_pixels(images, "the batch of images")
        pixels = images.to(self.side.pictures.device).float().clamp(0, 1)
        matches = []
        for first in range(0, len(pixels), AT_ONCE):
            batch = pixels[first : first + AT_ONCE]
            looks = look(batch, self.side.whitening, self.native)
            matches += [self._matches(picture, seen) for picture, seen in zip(batch, looks, strict=True)]
        return matches

    @property
    def looking(self) -> Effort:
        """How far this filter looks: as told, else as its number of protected pictures asks for."""
        return self.effort or Effort.for_library(len(self.side))

    def _matches(self, picture: Tensor, looks: Looks) -> list[Match]:
        effort = self.looking
        nominees = nominate(
            looks, self.side.sought, items=effort.items, each=effort.placements, keep=effort.aligned
        )
        near = nominees.nearness >= effort.near
        if not bool(near.any()):
            return []
        items, placed = nominees.items[near], nominees.placed[near]
        pyramid = levels(picture)
        rows, moved, coarse = align(pyramid, self.side.pixels(items), placed, effort.finished)
        matches = self._aligned(pyramid, items[rows], moved)
        if self.opinion is not None and not any(m.score >= self.threshold for m in matches.values()):
            asked = coarse.masked_fill(nominees.nearness[near] < effort.worth_asking, -1)
            order = [i for i in asked.argsort(descending=True).tolist() if asked[i] >= 0]
            if order:
                self._ask(self.opinion, picture, list(dict.fromkeys(items[order].tolist())), matches)
        return sorted(matches.values(), key=lambda m: -m.score)

    def _aligned(self, pyramid: list[Tensor], items: Tensor, placed: Tensor) -> dict[str, Match]:
        """What the measures say of placements that were aligned: the best of each protected picture."""
        seen, targets = cut_patches(pyramid, placed, SIDE), self.side.pixels(items)
        whole = agreement(seen, targets)
        half = agreement(cell_means(seen, 2), cell_means(targets, 2))
        height, width = pyramid[0].shape[-2:]
        orientation, soft = ((a + b) / 2 for a, b in zip(whole, half, strict=True))
        matches: dict[str, Match] = {}
        for i, item in enumerate(items.tolist()):
            evidence = Evidence(float(orientation[i]), float(soft[i]))
            match = Match(
                self.side.ids[item],
                self.thresholds.score(evidence),
                Place.of(placed[i], height, width),
                evidence,
            )
            if match.id not in matches or matches[match.id].score < match.score:
                matches[match.id] = match
        return matches

    def _ask(
        self, opinion: SecondOpinion, picture: Tensor, rows: list[int], matches: dict[str, Match]
    ) -> None:
        """Add to `matches` what local features say of some protected pictures."""
        points = opinion.points(picture)
        for row in rows:
            item = self.side.ids[row]
            original = self.originals.get(item)
            protected = self.side.pixels(torch.tensor([row]))[0] if original is None else original
            agreeing = opinion.compare(points, item, protected)
            known = matches.get(item, Match(item, 0.0, None, Evidence(0.0, 0.0)))
            evidence = replace(known.evidence or Evidence(0.0, 0.0), inliers=agreeing.inliers)
            score = self.thresholds.score(evidence)
            place = known.place
            if agreeing.placed is not None and score > known.score:
                place = Place.of(agreeing.placed, *picture.shape[-2:])
            matches[item] = Match(item, score, place, evidence)

    def _detection(self, matches: list[Match]) -> Detection:
        if not matches:
            return Detection(self.name, False, 0.0, self.threshold)
        best = matches[0]
        flagged = not best.score < self.threshold  # a score that is no number flags
        return Detection(self.name, flagged, best.score, self.threshold, best.id)
