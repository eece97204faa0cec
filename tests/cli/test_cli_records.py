"""`steerclear keys` and `steerclear audit`: keys, and incidents reviewed, verified, exported, purged."""

from __future__ import annotations

import base64
import json
import sqlite3

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from steerclear import Detection, Outcome, Report
from steerclear.cli.audit import app as audit_app
from steerclear.cli.keys import app as keys_app
from steerclear.records import Incident, Keep, Records

KEY = bytes(range(32))


@pytest.fixture
def database(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERCLEAR_RECORDS_KEY", base64.b64encode(KEY).decode())
    monkeypatch.setenv("STEERCLEAR_DATABASE", str(tmp_path / "records.db"))
    return tmp_path / "records.db"


@pytest.fixture
def incidents(database):
    """The ids of two incidents."""
    report = Report(
        "a fox",
        seed=7,
        outcome=Outcome.WITHHELD,
        detections=(Detection("nearest", flagged=True, score=0.9, threshold=0.8, matched="fox-1"),),
    )
    with Records.open(str(database), Keep(key=KEY)) as records:
        return [records.incidents.append(Incident.of(report)) for _ in range(2)]


def run(app: typer.Typer, *words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


def test_a_key_is_added_listed_without_its_secret_and_revoked(database):
    written = json.loads(run(keys_app, "add", "web shop", "--scope", "review", "--rate", 60, "--json"))
    secret = run(keys_app, "add", "other").strip()
    table = run(keys_app, "list")
    assert "web shop" in table
    assert "review" in table
    assert secret not in table
    assert written["secret"] not in table
    assert "is refused" in run(keys_app, "revoke", written["id"])
    with Records.open(str(database)) as records:
        assert records.keys.verify(written["secret"]) is None
        assert records.keys.verify(secret).scopes == {"generate"}
    assert "revoked" in run(keys_app, "list")
    assert "no key 'x'" in run(keys_app, "revoke", "x", code=2)
    assert "generate, review, admin" in run(keys_app, "add", "x", "--scope", "root", code=2)


def test_a_verification_prints_the_head_and_fails_for_changed_records(database, incidents):
    printed = run(audit_app, "verify")
    head = printed.split()[-1]
    assert "2 records, whole" in printed
    assert "whole" in run(audit_app, "verify", "--head", head)
    assert json.loads(run(audit_app, "verify", "--json"))["head"] == head
    connection = sqlite3.connect(database)
    connection.execute("DROP TRIGGER records_no_update")
    connection.execute("UPDATE records SET written = '2020' WHERE seq = 1")
    connection.commit()
    connection.close()
    assert "NOT WHOLE" in run(audit_app, "verify", code=1)


def test_an_incident_is_overruled_and_its_picture_goes_from_the_bank_to_a_folder(
    database, incidents, tmp_path
):
    assert "fox-1" in run(audit_app, "list", "--state", "open")
    assert "reviewer" in run(audit_app, "decide", incidents[0], "no_copy", "--reviewer", " ", code=2)
    run(audit_app, "decide", incidents[0], "no_copy", "--reviewer", "anna")
    assert incidents[0] not in run(audit_app, "list", "--state", "open")
    assert json.loads(run(audit_app, "list", "--state", "decided", "--json"))[0]["reviewer"] == "anna"
    Image.new("RGB", (80, 60), "teal").save(tmp_path / "picture.png")
    added = run(audit_app, "negatives", "--add", incidents[0], "--picture", tmp_path / "picture.png")
    assert "80 × 60" in run(audit_app, "negatives")
    assert "1 pictures written" in run(audit_app, "negatives", "--out", tmp_path / "bank")
    assert len(list((tmp_path / "bank").glob("*.png"))) == 1
    run(audit_app, "negatives", "--remove", added.split()[0])
    assert "80 × 60" not in run(audit_app, "negatives")
    assert "whole" in run(audit_app, "verify")


def test_records_are_exported_purged_and_upgraded(database, incidents, tmp_path):
    assert "2 records" in run(audit_app, "export", tmp_path / "all.jsonl")
    assert "nothing to purge" in run(audit_app, "purge")
    assert "needs --why" in run(audit_app, "purge", "--incident", incidents[0], code=2)
    assert "1 contents" in run(audit_app, "purge", "--incident", incidents[0], "--why", "asked for")
    assert "1 texts" in run(audit_app, "purge", "--texts-older-than", 0)
    assert "already" in run(audit_app, "upgrade")
    assert "whole" in run(audit_app, "verify")
    assert "no item" in run(audit_app, "floods")
    assert "jsonl" in run(audit_app, "export", tmp_path / "all.csv", code=2)


def test_a_flood_is_printed_with_its_figures(database):
    from datetime import timedelta
    from unittest.mock import patch

    from steerclear.records import chain
    from steerclear.records.database import now

    def report(item):
        return Report(
            "a fox",
            seed=7,
            outcome=Outcome.WITHHELD,
            detections=(Detection("nearest", flagged=True, score=0.9, threshold=0.8, matched=item),),
        )

    with Records.open(str(database)) as records:
        with patch.object(chain, "now", lambda: now() - timedelta(days=5)):
            for i in range(30):
                records.incidents.append(Incident.of(report(f"item {i % 3}")))
        for _ in range(15):
            records.incidents.append(Incident.of(report("bear")))
    printed = run(audit_app, "floods")
    assert "bear: 15 of 15 incidents, 0.0 expected (0 of 30 before)" in printed
    assert [flood["item"] for flood in json.loads(run(audit_app, "floods", "--json"))] == ["bear"]


def test_a_share_of_an_item_is_set_listed_and_recorded(database, tmp_path):
    from steerclear.cli.library import app as library_app
    from steerclear.embedded import PROTECTED_FOLDER
    from steerclear.library import Library, add
    from steerclear.testing import FakeEncoder

    encoder = FakeEncoder(name="tiny")
    library = Library.create(tmp_path / "library", [encoder])
    for name in ("mascot-acme", "mascot-norvo"):
        add(library, PROTECTED_FOLDER / f"{name}.png", [encoder])
    where = ("--library", library.uri)
    assert "25 % of the seeds" in run(library_app, "share", "mascot-acme", 25, "--why", "new", *where)
    assert "25 %" in run(library_app, "share", *where)
    assert json.loads(run(library_app, "share", "--json", *where))[0]["why"] == "new"
    assert "say for how many per cent" in run(library_app, "share", "mascot-acme", *where, code=2)
    assert "for all seeds" in run(library_app, "share", "mascot-acme", 100, *where)
    assert json.loads(run(library_app, "share", "--json", *where)) == []
    run(audit_app, "export", tmp_path / "all.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [(row["kind"], row["item"], json.loads(row["body"])["percent"]) for row in rows] == [
        ("share", "mascot-acme", 25),
        ("share", "mascot-acme", 100),
    ]
