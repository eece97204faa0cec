"""Records on a SQLite file, and on a real PostgreSQL in the slow tier."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta

import postgres
import pytest
from records_doubles import report

from steerclear.records import Incident, Keep, Records


@pytest.fixture(scope="session")
def socket():
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.cluster() as folder:
        yield folder


@pytest.fixture(scope="session")
def new_file(tmp_path_factory):
    """A new SQLite file; copying it is quicker than making another."""
    file = tmp_path_factory.mktemp("new") / "records.db"
    Records.open(str(file)).close()
    return file


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request, tmp_path):
    """The address of an empty database."""
    if request.param == "sqlite":
        shutil.copyfile(request.getfixturevalue("new_file"), tmp_path / "records.db")
        return f"sqlite:///{tmp_path / 'records.db'}"
    address = postgres.empty_database(request.getfixturevalue("socket"))
    Records.upgrade(address)
    return address


@pytest.fixture
def records(url):
    with Records.open(url) as opened:
        yield opened


@pytest.fixture
def keep():
    return Keep(pictures=timedelta(days=7), key=os.urandom(32))


@pytest.fixture
def with_pictures(url, keep):
    with Records.open(url, keep) as opened:
        yield opened


@pytest.fixture
def incident():
    """Makes an incident."""

    def make(prompt="a fox", item="fox-1", **values):
        return Incident.of(report(prompt, item=item, reason=f"no strategy passed for {prompt!r}"), **values)

    return make
