"""Scores of the clean pictures, without those that are likely copies of a protected picture themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image

from steerclear.copy_detection import CopyFilter
from steerclear.errors import InputError
from steerclear.filters.base import Filter, inspect
from steerclear.pixels import to_tensor

COPY = 0.95  # agreement of edge directions from which a clean picture is a likely copy
NEIGHBOURS = 12  # clean pictures kept to stand beside a copy in a collage


class Picture(NamedTuple):
    """A picture to calibrate on, and where it comes from: a file, or prompt, seed and settings."""

    image: Image.Image
    origin: str


@dataclass(frozen=True)
class LikelyCopy:
    """A picture among the clean ones that shows a protected picture.

    Attributes:
        picture: the picture.
        matched: id of the protected picture.
        agreement: of their edge directions, in [0, 1].
    """

    picture: Picture
    matched: str
    agreement: float


@dataclass(frozen=True)
class Clean:
    """What the filters say of the clean pictures.

    Attributes:
        scores: filter name → scores of the N pictures that count.
        likely_copies: what was left out, since a threshold above a copy's score would let copies pass.
        first: the first NEIGHBOURS of the pictures that count.
    """

    scores: dict[str, list[float]]
    likely_copies: list[LikelyCopy] = field(default_factory=list)
    first: list[Image.Image] = field(default_factory=list)

    @classmethod
    def of(cls, filters: Sequence[Filter], pictures: Iterable[Picture]) -> Clean:
        """Scores each picture, and leaves out the likely copies.

        Args:
            filters: what scores.
            pictures: of which none should show a protected picture.

        Raises:
            InputError: if a filter fails, or nothing is left.
        """
        clean = cls({filter_.name: [] for filter_ in filters})
        copy_filters = [filter_ for filter_ in filters if isinstance(filter_, CopyFilter)]
        for picture in pictures:
            scored = score(filters, picture)
            copies = [copy for f in copy_filters for copy in _likely_copy(f, picture, scored[f.name])]
            if copies:
                clean.likely_copies.append(copies[0])
                continue
            for name, value in scored.items():
                clean.scores[name].append(value)
            if len(clean.first) < NEIGHBOURS:
                clean.first.append(picture.image)
        if clean.likely_copies and not clean.first:
            example = clean.likely_copies[0]
            raise InputError(
                f"all {len(clean.likely_copies)} clean pictures look like copies of protected ones, such as "
                f"{example.picture.origin} of {example.matched!r}; give pictures that show nothing protected"
            )
        return clean

    def neighbours(self, thresholds: Mapping[str, float]) -> list[Image.Image]:
        """Clean pictures to stand beside a copy: of `first` those that no filter flags, if there are any."""
        clear = [
            image
            for i, image in enumerate(self.first)
            if all(self.scores[name][i] < threshold for name, threshold in thresholds.items())
        ]
        return clear or self.first


def scores(filters: Sequence[Filter], pictures: Iterable[Picture]) -> dict[str, list[float]]:
    """Every filter's scores on all pictures, by the filter's name.

    Raises:
        InputError: if a filter fails.
    """
    columns: dict[str, list[float]] = {filter_.name: [] for filter_ in filters}
    for picture in pictures:
        for name, value in score(filters, picture).items():
            columns[name].append(value)
    return columns


def score(filters: Sequence[Filter], picture: Picture) -> dict[str, float]:
    """Every filter's score on a picture, by the filter's name.

    Raises:
        InputError: if a filter fails.
    """
    detections = inspect(filters, [picture.image])[0]
    for detection in detections:
        if detection.error:
            raise InputError(
                f"the filter {detection.filter!r} cannot be calibrated: it failed on {picture.origin}: "
                f"{detection.error}"
            )
    return {detection.filter: detection.score for detection in detections}


def _likely_copy(copy_filter: CopyFilter, picture: Picture, reached: float) -> Iterator[LikelyCopy]:
    """The protected picture that a picture shows beyond doubt, if any. reached: its score by the filter."""
    if reached < COPY / copy_filter.thresholds.orientation:
        return  # the score is never below the agreement's share of it
    for match in copy_filter.look(to_tensor([picture.image]))[0]:
        if match.evidence is not None and match.evidence.orientation > COPY:
            yield LikelyCopy(picture, match.id, match.evidence.orientation)
