"""Keys: shown once, kept hashed, refused at once when they are revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from steerclear.errors import InputError, RecordsError
from steerclear.records import Records


def test_a_key_is_known_by_its_secret_with_its_scopes_and_limits(records):
    key, secret = records.keys.add("web shop", ["generate", "review"], rate=60, concurrency=2)
    known = records.keys.verify(secret)
    assert known is not None
    assert (known.id, known.name) == (key.id, "web shop")
    assert known.scopes == {"generate", "review"}
    assert (known.rate, known.concurrency) == (60, 2)


def test_anything_else_is_no_key(records):
    _, secret = records.keys.add("web shop")
    other = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    for wrong in ("", "x", other, secret + "x", secret.upper(), "sck__", "sck_é_x", secret.split("_")[1]):
        assert records.keys.verify(wrong) is None


def test_the_database_does_not_hold_the_secret(url):
    with Records.open(url) as records:
        _, secret = records.keys.add("web shop")
    engine = sa.create_engine(url)
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        every_scope = [
            str(row) for table in tables.sorted_tables for row in connection.execute(table.select())
        ]
    engine.dispose()
    assert every_scope
    assert not any(secret in row or secret.split("_", 2)[2] in row for row in every_scope)


def test_a_revoked_key_is_refused_at_once_by_every_server(url):
    with Records.open(url) as one_server, Records.open(url) as other_server:
        key, secret = one_server.keys.add("web shop")
        assert other_server.keys.verify(secret) is not None
        one_server.keys.revoke(key.id)
        assert other_server.keys.verify(secret) is None
        assert other_server.keys.list()[0].revoked is not None


def test_a_key_is_refused_once_its_time_is_over(records):
    _, old = records.keys.add("old", expires=datetime.now(UTC) - timedelta(seconds=1))
    _, new = records.keys.add("new", expires=datetime.now(UTC) + timedelta(hours=1))
    assert records.keys.verify(old) is None
    assert records.keys.verify(new) is not None


def test_what_cannot_be_a_key_is_refused(records):
    with pytest.raises(InputError, match="needs a name"):
        records.keys.add(" ")
    with pytest.raises(InputError, match="generate, review, admin"):
        records.keys.add("x", ["root"])
    with pytest.raises(InputError, match="the rate is 0"):
        records.keys.add("x", rate=0)
    with pytest.raises(InputError, match="no time zone"):
        records.keys.add("x", expires=datetime(2030, 1, 1))
    with pytest.raises(RecordsError, match="no key 'nobody'"):
        records.keys.revoke("nobody")
    assert records.keys.list() == []


def test_a_key_that_was_slipped_into_the_database_is_seen_by_a_verification(url):
    with Records.open(url) as records:
        records.keys.add("web shop")
        assert records.verify().problems == []
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE keys SET scopes = 'admin'"))
    engine.dispose()
    with Records.open(url) as records:
        assert "is not as it was added" in records.verify().problems[0]
