"""The chain: whatever is changed, removed, added or moved is seen."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from steerclear.errors import RecordsError
from steerclear.records import Records
from steerclear.records.chain import row_hash


@pytest.fixture
def filled(url, incident):
    """The address of a database of six records."""
    with Records.open(url) as records:
        ids = [records.incidents.append(incident(f"fox {i}")) for i in range(4)]
        records.incidents.decide(ids[1], "no_copy", "anna")
        records.keys.add("web shop")
        assert records.verify().problems == []
    return url


def tamper(url, *statements):
    """Changes the database as somebody can who owns it: first of all the triggers go."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            for change in ("update", "delete"):
                connection.execute(sa.text(f"DROP TRIGGER records_no_{change}"))
        else:
            connection.execute(sa.text("ALTER TABLE queue DROP CONSTRAINT queue_incident_fkey"))
            connection.execute(sa.text("DROP TRIGGER records_append_only ON records"))
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def problems(url, head=None):
    with Records.open(url) as records:
        return records.verify(head).problems


def head_of(url):
    with Records.open(url) as records:
        return records.verify().head


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "UPDATE records SET body = replace(body, 'withheld', 'steered') WHERE seq = 2",
            "row 2 .* was changed",
        ),
        ("UPDATE records SET written = '2020' WHERE seq = 6", "row 6 .* was changed"),
        ("UPDATE records SET item = 'owl' WHERE seq = 1", "row 1 .* was changed"),
        ("UPDATE records SET hash = previous || '' WHERE seq = 1", "row 1 .* was changed"),
        ("DELETE FROM records WHERE seq = 3", "row 4 .* follows row 2"),
        ("DELETE FROM records WHERE seq = 1", "row 2 .* follows row 0"),
        ("UPDATE records SET seq = 7 WHERE seq = 6", "row 7 .* follows row 5"),
        ("UPDATE queue SET decision = 'copy' WHERE seq = 2", "the queue says 'copy'"),
        ("UPDATE contents SET value = salt", "texts of inc.* was changed"),
        ("DELETE FROM contents", "is gone, and no purge took it"),
        ("DELETE FROM queue WHERE seq = 4", "is not in the queue"),
        ("DELETE FROM keys", "the key .* is gone"),
        ("UPDATE keys SET revoked = '2020'", "is revoked in the chain or in the table"),
    ],
)
def test_a_change_is_seen(filled, statement, problem):
    tamper(filled, statement)
    with pytest.raises(AssertionError, match=problem):
        assert problems(filled) == []


def test_rows_that_have_changed_places_are_seen(filled):
    tamper(
        filled,
        "UPDATE records SET seq = 100 WHERE seq = 3",
        "UPDATE records SET seq = 3 WHERE seq = 4",
        "UPDATE records SET seq = 4 WHERE seq = 100",
    )
    assert any("row 3" in problem and "was changed" in problem for problem in problems(filled))


def test_an_end_that_was_cut_off_is_seen_by_a_head_that_was_kept(filled):
    head = head_of(filled)
    assert problems(filled, head) == []
    tamper(filled, "DELETE FROM keys", "DELETE FROM records WHERE seq = 6")
    assert problems(filled) == []  # the chain alone cannot show it, as the documentation says
    assert "its end was cut off" in problems(filled, head)[0]


def test_a_chain_that_was_computed_anew_is_seen_by_a_head_that_was_kept(filled):
    head = head_of(filled)
    engine = sa.create_engine(filled)
    with engine.connect() as connection:
        rows = [row._asdict() for row in connection.execute(sa.text("SELECT * FROM records ORDER BY seq"))]
    engine.dispose()
    rows[5]["written"] = "2020-01-01T00:00:00.000000+00:00"
    rows[5]["hash"] = row_hash(rows[5])
    tamper(
        filled,
        f"UPDATE records SET written = '{rows[5]['written']}', hash = '{rows[5]['hash']}' WHERE seq = 6",
    )
    assert problems(filled) == []
    assert "written anew" in problems(filled, head)[0]


def test_an_earlier_head_is_still_good_after_more_records(filled, incident):
    head = head_of(filled)
    with Records.open(filled) as records:
        records.incidents.append(incident())
        assert records.verify(head).problems == []


def test_the_database_itself_refuses_changes_of_the_chain(filled):
    engine = sa.create_engine(filled)
    for statement in ("UPDATE records SET kind = 'x'", "DELETE FROM records"):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(sa.text(statement))
    engine.dispose()


def test_the_first_row_follows_nothing_and_holds_plain_json(filled):
    engine = sa.create_engine(filled)
    with engine.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM records ORDER BY seq LIMIT 1")).one()
    engine.dispose()
    assert row.previous == "0" * 64
    assert json.loads(row.body)["report"]["outcome"] == "withheld"


def test_an_unknown_record_cannot_be_read(filled):
    with Records.open(filled) as records, pytest.raises(RecordsError, match="no incident 'x'"):
        records.incidents.get("x")
