"""What the filters see of altered copies of a library's pictures, kind by kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from steerclear.calibrate.clean import score
from steerclear.calibrate.pictures import Picture
from steerclear.copy_detection.alterations import alterations
from steerclear.filters.base import Filter

SEEN = 0.5  # a picture of whose altered copies a smaller share is flagged counts as mostly missed
BLIND = 0.9  # filters that flag a smaller share of a kind of copies count as blind to it


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


def altered_copies(
    filters: Sequence[Filter],
    pictures: Iterable[tuple[str, Image.Image]],
    neighbours: Sequence[Image.Image],
) -> Iterator[AlteredCopy]:
    """Alters each picture in every known way, at both ends of its strengths, and scores the copies.

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
                yield AlteredCopy(item, kind=kind, strength=strength, scores=score(filters, copy))


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


def mostly_missed(copies: Iterable[AlteredCopy], thresholds: Mapping[str, float]) -> dict[str, float]:
    """The protected pictures whose altered copies the filters mostly miss, such as flags and stripes.

    Args:
        copies: what was scored.
        thresholds: filter name → threshold.

    Returns:
        id → share of the copies that any filter flags, where it is below SEEN; the least first.
    """
    flags: dict[str, list[bool]] = {}
    for copy in copies:
        caught = any(score >= thresholds[name] for name, score in copy.scores.items())
        flags.setdefault(copy.item, []).append(caught)
    shares = {item: sum(caught) / len(caught) for item, caught in flags.items()}
    return {item: shares[item] for item in sorted(shares, key=shares.__getitem__) if shares[item] < SEEN}
