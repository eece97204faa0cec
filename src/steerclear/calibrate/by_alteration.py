"""What the filters see of altered copies of a library's pictures, kind by kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from steerclear.calibrate.clean import Picture, score
from steerclear.copy_detection.alterations import alterations
from steerclear.filters.base import Filter
from steerclear.library.pictures import original
from steerclear.pixels import to_image

if TYPE_CHECKING:
    from steerclear.library import Library

BLIND = 0.9  # share of the copies of a kind below which the filters are called blind to it
SHORT_SIDE = (64, 256)  # pixels, from a thumbnail's to where larger ones show the filters nothing more
LONGEST = 1024


@dataclass(frozen=True)
class AlteredCopy:
    """An altered copy, and every filter's score on it.

    Attributes:
        item: id of the protected picture.
        kind: what was done, such as "text".
        strength: how strongly, such as "two lines".
        scores: filter name → score.
    """

    item: str
    kind: str
    strength: str
    scores: dict[str, float]


def protected_pictures(library: Library, most: int) -> list[tuple[str, Image.Image]]:
    """Pictures of a library by id: all, or `most` of them in even steps.

    A picture is read from its original file where that is still there, else it is the thumbnail.

    Args:
        library: the protected pictures.
        most: how many, at least 1.

    Returns:
        (id, picture), its short side within SHORT_SIDE.
    """
    items = library.items()
    count = min(most, len(items))
    chosen = [items[i * len(items) // count] for i in range(count)]
    thumbnails = dict(zip(*library.thumbnails([item.id for item in chosen]), strict=True))
    return [
        (item.id, _resized(original(item, library.uri) or to_image(thumbnails[item.id]))) for item in chosen
    ]


def altered_copies(
    filters: Sequence[Filter],
    pictures: Iterable[tuple[str, Image.Image]],
    neighbours: Sequence[Image.Image],
) -> Iterator[AlteredCopy]:
    """Alters each picture in every known way, at its mildest and its strongest, and scores the copies.

    Args:
        filters: what scores.
        pictures: (id, picture).
        neighbours: at least one clean picture, to stand beside the copy in a collage.

    Yields:
        The altered copies of the first picture, then those of the next.

    Raises:
        InputError: if a filter fails.
    """
    beside = [neighbours[i % len(neighbours)] for i in range(max(3, len(neighbours)))]
    for number, (item, picture) in enumerate(pictures):
        for kind, strengths in alterations(beside, seed=number).items():
            for strength in dict.fromkeys((next(iter(strengths)), next(reversed(strengths)))):
                copy = Picture(strengths[strength](picture), f"{item!r} altered by {kind}, {strength}")
                yield AlteredCopy(item, kind, strength, score(filters, copy))


def by_alteration(
    copies: Iterable[AlteredCopy], thresholds: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """How many altered copies of each kind the filters flag.

    Args:
        copies: what was scored.
        thresholds: filter name → threshold.

    Returns:
        kind → `copies`, how many there are; `flagged`, by all filters together; `by_filter`, by each alone;
        and `strengths`, the same two numbers for each strength.
    """
    table: dict[str, dict[str, Any]] = {}
    for copy in copies:
        row = table.setdefault(
            copy.kind,
            {"copies": 0, "flagged": 0, "by_filter": dict.fromkeys(thresholds, 0), "strengths": {}},
        )
        at_strength = row["strengths"].setdefault(copy.strength, {"copies": 0, "flagged": 0})
        flagging = [name for name, value in copy.scores.items() if value >= thresholds[name]]
        for name in flagging:
            row["by_filter"][name] += 1
        for counts in (row, at_strength):
            counts["copies"] += 1
            counts["flagged"] += bool(flagging)
    return table


def blind_to(table: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The kinds of which fewer than BLIND of the copies are flagged, with that share, the worst first."""
    shares = {kind: row["flagged"] / row["copies"] for kind, row in table.items()}
    return {kind: share for kind, share in sorted(shares.items(), key=lambda pair: pair[1]) if share < BLIND}


def _resized(picture: Image.Image) -> Image.Image:
    """The picture with its short side within SHORT_SIDE and its long one at most LONGEST."""
    short = min(picture.size)
    factor = min(max(short, SHORT_SIDE[0]), SHORT_SIDE[1]) / short
    size = (
        min(LONGEST, round(picture.width * factor)),
        min(LONGEST, round(picture.height * factor)),
    )
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
