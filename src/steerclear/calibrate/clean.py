"""Scores of the clean pictures, without those that are likely copies of a protected picture themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from steerclear.calibrate.pictures import Picture, resized
from steerclear.copy_detection import CopyFilter
from steerclear.errors import InputError
from steerclear.filters.base import Filter, inspect
from steerclear.pixels import to_tensor

COPY = 0.95  # agreement of edge directions from which a clean picture is a likely copy
NAMED = 10  # likely copies that are kept for somebody to look at
NEIGHBOURS = 12  # clean pictures kept to stand beside a copy in a collage


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


@dataclass
class Clean:
    """What the filters say of the clean pictures.

    Attributes:
        scores: filter name → scores of the N pictures that count.
        left_out: how many likely copies were left out, since a threshold above their scores would let copies
            pass.
        likely_copies: the first NAMED of them.
        first: the first NEIGHBOURS of the pictures that count, made small.
        prompts: what the pictures that count were generated from; None for one that was read from a file.
        overruled: how many of the pictures that count, the last ones, a reviewer has judged: each was flagged
            and is no copy.
    """

    scores: dict[str, list[float]]
    left_out: int = 0
    likely_copies: list[LikelyCopy] = field(default_factory=list)
    first: list[Image.Image] = field(default_factory=list)
    prompts: list[str | None] = field(default_factory=list)
    overruled: int = 0

    @classmethod
    def of(
        cls, filters: Sequence[Filter], pictures: Iterable[Picture], overruled: Iterable[Picture] = ()
    ) -> Clean:
        """Scores each picture, and leaves out the likely copies.

        Args:
            filters: what scores; without a CopyFilter nothing is left out.
            pictures: of which none should show a protected picture.
            overruled: pictures that a reviewer has said to be no copies: none of them is left out, however
                much it looks like one.

        Raises:
            InputError: if a filter fails, or nothing is left.
        """
        clean = cls({filter_.name: [] for filter_ in filters})
        for picture in pictures:
            clean._add(picture, score(filters, picture), filters)
        if clean.left_out and not clean.first:
            example = clean.likely_copies[0]
            raise InputError(
                f"all {clean.left_out} clean pictures look like copies of protected ones, such as "
                f"{example.picture.origin} of {example.matched!r}; give pictures that show nothing protected"
            )
        for picture in overruled:
            clean._count(picture, score(filters, picture))
            clean.overruled += 1
        return clean

    def _add(self, picture: Picture, scored: Mapping[str, float], filters: Sequence[Filter]) -> None:
        copy = next(
            (
                copy
                for f in filters
                if isinstance(f, CopyFilter)
                for copy in _likely(f, picture, scored[f.name])
            ),
            None,
        )
        if copy is not None:
            self.left_out += 1
            self.likely_copies = [*self.likely_copies, copy][:NAMED]
            return
        self._count(picture, scored)
        if len(self.first) < NEIGHBOURS:
            self.first.append(resized(picture.image))

    def _count(self, picture: Picture, scored: Mapping[str, float]) -> None:
        for name, value in scored.items():
            self.scores[name].append(value)
        self.prompts.append(picture.prompt)

    def overruled_flagged(self, thresholds: Mapping[str, float]) -> int:
        """How many of the overruled pictures some filter would still flag."""
        last = range(len(self.prompts) - self.overruled, len(self.prompts))
        return sum(
            any(self.scores[name][i] >= threshold for name, threshold in thresholds.items()) for i in last
        )

    def neighbours(self, thresholds: Mapping[str, float]) -> list[Image.Image]:
        """Clean pictures to stand beside a copy: of `first` those that no filter flags, if there are any."""
        clear = [
            image
            for i, image in enumerate(self.first)
            if all(self.scores[name][i] < threshold for name, threshold in thresholds.items())
        ]
        return clear or self.first

    def clear_prompts(self, thresholds: Mapping[str, float]) -> list[str]:
        """The prompts of which at least one picture stayed below all thresholds, each once.

        One flagged picture is no reason to drop a prompt: what is generated from it is checked in any case.
        """
        clear = [
            prompt
            for i, prompt in enumerate(self.prompts)
            if prompt is not None
            and all(self.scores[name][i] < threshold for name, threshold in thresholds.items())
        ]
        return list(dict.fromkeys(clear))


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


def _likely(copy_filter: CopyFilter, picture: Picture, reached: float) -> Iterator[LikelyCopy]:
    """The protected picture that a picture shows beyond doubt, if any. reached: its score by the filter."""
    if reached < 1:
        return  # what agrees that well scores more than 1
    for match in copy_filter.look(to_tensor([picture.image]))[0]:
        if match.evidence is not None and match.evidence.orientation > COPY:
            yield LikelyCopy(picture, match.id, match.evidence.orientation)
