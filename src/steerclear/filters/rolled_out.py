"""Filters over items that are enforced only for some of the seeds, see `library.rollout`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from PIL import Image

from steerclear.devices import raise_if_lost
from steerclear.filters.base import Filter, judge
from steerclear.library.rollout import Share
from steerclear.types import Detection

Row = tuple[Detection, ...]
REMEMBERED = 16  # sets of items whose filters are kept


@dataclass(frozen=True)
class RolledOut:
    """Checks pictures for items in a gradual roll-out, apart from all other items.

    An item that is not enforced for a picture's seed decides nothing, and does not hide others: the other
    items have filters of their own. A filter that fails always counts as enforced.

    Attributes:
        shares: the items, each with the share of seeds for which it is enforced.
        build: makes the filters over some of the items: those for any picture, and further ones that a
            steered picture must pass.
    """

    shares: Sequence[Share]
    build: Callable[[frozenset[str]], tuple[Sequence[Filter], Sequence[Filter]]]
    _built: dict[frozenset[str], tuple[Sequence[Filter], Sequence[Filter]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def look(self, image: Image.Image, seed: int, names: Collection[str]) -> tuple[Row, Row]:
        """Check a picture.

        Args:
            image: a finished picture.
            seed: of the requested image.
            names: of the filters to run.

        Returns:
            The detections that decide, and those of items that are only observed for this seed.
        """
        enforced = frozenset(share.item for share in self.shares if share.enforced(seed))
        observed = frozenset(share.item for share in self.shares) - enforced
        decides, tells = self._judge(enforced, image, names), self._judge(observed, image, names)
        failed = tuple(d for d in tells if d.error is not None)
        return (*decides, *failed), tuple(d for d in tells if d.flagged and d.error is None)

    def all(self, image: Image.Image, names: Collection[str]) -> Row:
        """Check a picture as if every item were enforced.

        Args:
            image: a finished picture.
            names: of the filters to run.

        Returns:
            All detections.
        """
        return self._judge(frozenset(share.item for share in self.shares), image, names)

    def _judge(self, items: frozenset[str], image: Image.Image, names: Collection[str]) -> Row:
        if not items:
            return ()
        try:
            filters = self._filters(items)
        except Exception as error:  # what cannot be looked for counts as seen
            raise_if_lost(error)
            why = f"{type(error).__name__}: {error}"
            return (Detection("roll-out", flagged=True, score=math.nan, threshold=0.0, error=why),)
        asked = [filter_ for kind in filters for filter_ in kind if filter_.name in names]
        return judge(asked, [image])[0] if asked else ()

    def _filters(self, items: frozenset[str]) -> tuple[Sequence[Filter], Sequence[Filter]]:
        known = self._built.get(items)
        if known is None:
            known = self.build(items)
            if len(self._built) >= REMEMBERED:
                self._built.clear()
            self._built[items] = known
        return known
