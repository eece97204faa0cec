"""Which protected items suddenly match far more than their share, so that somebody looks at them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from steerclear.errors import InputError
from steerclear.records.database import Database, stamp
from steerclear.records.tables import records

WINDOW = timedelta(days=1)
HISTORY = timedelta(days=30)  # before the window
FEWEST = 10  # incidents of the item in the window
TIMES = 5.0  # its share of all incidents has grown at least so many times
ALARM = 1e-3  # chance of one false alarm among all items together, where nothing has changed


@dataclass(frozen=True, slots=True)
class Flood:
    """An item that matches far more than its share.

    Attributes:
        item: its id.
        incidents: of the item in the window.
        of: all incidents in the window.
        before: incidents of the item in the history.
        of_before: all incidents in the history.
        expected: of the item in the window, at its share of the history.
        p: chance of so many or more if its share had not changed, times the number of items compared.
    """

    item: str
    incidents: int
    of: int
    before: int
    of_before: int
    expected: float
    p: float


def floods(
    database: Database, present: datetime, window: timedelta = WINDOW, history: timedelta = HISTORY
) -> list[Flood]:
    """Names the items whose share of all incidents has suddenly grown.

    With k of n incidents in the window and h of m before it, an item is named if k is FEWEST or more, k/n is
    TIMES h/m or more, and Fisher's exact test, one-sided, gives a chance below ALARM over the number of items
    compared (Bonferroni). The test asks for the chance that k or more of the item's k + h incidents fall
    among the n, if all n + m are in random order: so a short history is no proof. Without a history nothing
    is named.

    Args:
        database: the records.
        present: end of the window.
        window: its length.
        history: length of the time before it.

    Returns:
        The least likely first.

    Raises:
        InputError: for a period that is not above zero.
    """
    for name, period in (("window", window), ("history", history)):
        if period <= timedelta(0):
            raise InputError(f"the {name} is {period}; give a period above zero")
    begin = present - window
    now_counts = _counts(database, begin, present)
    counts_before = _counts(database, begin - history, begin)
    n, m = now_counts.total(), counts_before.total()
    items = [item for item in now_counts if item is not None]
    named = []
    for item in items:
        k, h = now_counts[item], counts_before[item]
        expected = n * h / m if m else 0.0
        if not m or k < FEWEST or k < TIMES * expected:
            continue
        p = min(1.0, len(items) * at_least(k, drawn=n, marked=k + h, of=n + m))
        if p < ALARM:
            named.append(Flood(item, incidents=k, of=n, before=h, of_before=m, expected=expected, p=p))
    return sorted(named, key=lambda flood: (flood.p, flood.item))


def at_least(k: int, *, drawn: int, marked: int, of: int) -> float:
    """The hypergeometric chance of k or more marked ones.

    Args:
        k: the least number of marked ones among those drawn.
        drawn: how many are drawn, without putting back.
        marked: how many are marked.
        of: how many there are.
    """
    terms = [
        _log_choose(marked, i) + _log_choose(of - marked, drawn - i) - _log_choose(of, drawn)
        for i in range(max(k, drawn + marked - of), min(drawn, marked) + 1)
    ]
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _counts(database: Database, begin: datetime, end: datetime) -> Counter[str | None]:
    """Incidents by item, from `begin` on and before `end`; None counts those that resemble no item."""
    query = (
        sa.select(records.c.item, sa.func.count())
        .where(
            records.c.kind == "incident", records.c.written >= stamp(begin), records.c.written < stamp(end)
        )
        .group_by(records.c.item)
    )
    with database.reading() as connection:
        return Counter({item: int(count) for item, count in connection.execute(query)})
