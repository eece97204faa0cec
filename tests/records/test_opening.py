"""Opening: a new file is made, a database that is not up to date says which command to run."""

from __future__ import annotations

import base64
import stat

import pytest
import sqlalchemy as sa

from steerclear.errors import ConfigError, RecordsError
from steerclear.records import Records, read_key


def test_a_new_file_is_for_its_owner_alone(tmp_path):
    Records.open(f"sqlite:///{tmp_path / 'deep' / 'records.db'}").close()
    mode = (tmp_path / "deep" / "records.db").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def set_revision(url, revision):
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    engine.dispose()


def test_a_database_of_a_newer_steerclear_is_not_touched(url):
    set_revision(url, "9999")
    with pytest.raises(RecordsError, match="'9999', which a newer steerclear made; upgrade steerclear"):
        Records.open(url)


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(url, incident):
    with Records.open(url) as records:
        records.incidents.append(incident())
    before, after = Records.upgrade(url)
    assert before == after
    with Records.open(url) as records:
        assert records.verify().records == 1


def test_a_database_that_is_somebody_elses_is_named_with_the_command(tmp_path):
    file = tmp_path / "other.db"
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE songs (title TEXT)"))
    engine.dispose()
    with pytest.raises(RecordsError, match="steerclear audit upgrade --database"):
        Records.open(str(file))


def test_what_is_no_database_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "note.txt").write_text("this is no database at all, but long enough to be read as a header")
    for url, error, words in (
        (str(tmp_path / "note.txt"), RecordsError, "not a database"),
        ("sqlite://", ConfigError, "names no file"),
        ("mysql://host/name", ConfigError, "use a SQLite file or PostgreSQL"),
        ("://", ConfigError, "no address"),
        (f"sqlite:///{tmp_path}", RecordsError, "check the path"),
    ):
        with pytest.raises(error, match=words):
            Records.open(url)


def test_a_password_is_in_no_message():
    address = "postgresql://somebody:s3cret@127.0.0.1:1/name"
    with pytest.raises(RecordsError, match="check that it runs") as caught:
        Records.open(address)
    assert "s3cret" not in str(caught.value)
    assert "somebody" in str(caught.value)


def test_the_tables_are_those_that_the_migrations_make(url):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from steerclear.records.tables import metadata

    engine = sa.create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_key_of_pictures_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    for name in ("STEERCLEAR_RECORDS_KEY", "STEERCLEAR_RECORDS_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert read_key() is None
    key = bytes(range(32))
    file = tmp_path / "key"
    file.write_bytes(base64.b64encode(key) + b"\n")
    assert read_key(file) == key
    monkeypatch.setenv("STEERCLEAR_RECORDS_KEY", base64.b64encode(key).decode())
    assert read_key() == key
    monkeypatch.setenv("STEERCLEAR_RECORDS_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot read the key"):
        read_key()
    file.write_text("c2hvcnQ=")
    with pytest.raises(ConfigError, match="openssl rand -base64 32") as caught:
        read_key(file)
    assert "c2hvcnQ" not in str(caught.value)
