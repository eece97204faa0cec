"""Floods: an item that suddenly matches far more than its share is named."""

from __future__ import annotations

from datetime import timedelta

import pytest
from scipy.stats import hypergeom

from steerclear.errors import InputError
from steerclear.records.database import now
from steerclear.records.floods import at_least


@pytest.fixture
def with_history(records, incident):
    """Thirty incidents of three items, three days before `present`; then what a test adds counts as now."""
    for i in range(30):
        records.incidents.append(incident(item=("fox", "owl", "cat")[i % 3]))
    return records


def fill(records, incident, **counts):
    for item, count in counts.items():
        for _ in range(count):
            records.incidents.append(incident(item=item))


def named(records, began):
    """What is named if all incidents before `began` are history, and those since are the window."""
    present = now()
    return records.floods(window=present - began, present=present)


def test_an_item_that_takes_over_is_named_with_its_figures(with_history, incident):
    began = now()
    fill(with_history, incident, fox=1, bear=20)
    (flood,) = named(with_history, began)
    assert (flood.item, flood.incidents, flood.of, flood.before, flood.of_before) == ("bear", 20, 21, 0, 30)
    assert flood.p == pytest.approx(2 * hypergeom.sf(19, 51, 20, 21), rel=1e-6)
    assert flood.p < 1e-3


def test_more_traffic_of_the_same_kind_is_no_flood(with_history, incident):
    began = now()
    fill(with_history, incident, fox=12, owl=12, cat=12)
    assert named(with_history, began) == []


def test_a_few_incidents_are_no_flood(with_history, incident):
    began = now()
    fill(with_history, incident, bear=9)
    assert named(with_history, began) == []


def test_without_a_history_nothing_is_named(records, incident):
    began = now()
    fill(records, incident, bear=30)
    assert named(records, began) == []


def test_the_chance_is_the_hypergeometric_one():
    for k, drawn, marked, of in ((3, 10, 5, 40), (0, 4, 4, 9), (7, 8, 7, 8), (50, 100, 60, 5000)):
        exact = hypergeom.sf(k - 1, of, marked, drawn)
        assert at_least(k, drawn=drawn, marked=marked, of=of) == pytest.approx(exact, rel=1e-9)


def test_a_period_must_be_above_zero(records):
    with pytest.raises(InputError, match="the window is 0:00:00"):
        records.floods(window=timedelta(0))
