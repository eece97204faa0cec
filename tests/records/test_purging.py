"""Purging: contents go, the chain stays whole and says what went."""

from __future__ import annotations

import json
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from PIL import Image

from steerclear.errors import InputError, RecordsError
from steerclear.records import Keep, Records
from steerclear.records.chain import row_hash

PICTURE = Image.new("RGB", (32, 32), "orange")


def test_thumbnails_go_when_their_period_is_over_and_not_before(url, keep, incident):
    with Records.open(url, keep) as records:
        kept = records.incidents.append(incident(withheld=PICTURE))
    with Records.open(url, Keep(pictures=timedelta(microseconds=1), key=keep.key)) as records:
        over = [records.incidents.append(incident(withheld=PICTURE)) for _ in range(3)]
        head = records.verify().head
        assert records.purge() == {"thumbnail": 3}
        assert records.purge() == {}
        assert [records.incidents.thumbnail(id) for id in over] == [None] * 3
        assert records.incidents.thumbnail(kept) is not None
        assert records.incidents.get(over[0]).incident.prompt == "a fox"
        assert records.verify(head).problems == []


def test_old_texts_go_when_asked_and_figures_stay(records, incident):
    id = records.incidents.append(incident(settings={"negative_prompt": "blurry", "steps": 5}))
    assert records.purge(timedelta(days=1)) == {}
    assert records.purge(timedelta(0)) == {"texts": 1}
    logged = records.incidents.get(id)
    assert logged.incident.prompt is None
    assert logged.incident.settings == {"negative_prompt": None, "steps": 5}
    assert logged.incident.matched == "fox-1"
    assert records.incidents.decide(id, "copy", "anna").decided.decision == "copy"
    assert records.verify().problems == []
    with pytest.raises(InputError, match="an age of 0 or more"):
        records.purge(timedelta(days=-1))


def test_what_was_purged_is_in_no_file_any_more(tmp_path, incident):
    file = tmp_path / "records.db"
    with Records.open(str(file)) as records:
        records.incidents.append(incident("zebrafish"))
        assert b"zebrafish" in b"".join(path.read_bytes() for path in tmp_path.iterdir())
        records.purge(timedelta(0))
        assert b"zebrafish" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_one_incident_can_be_purged_with_the_reason_in_the_chain(with_pictures, incident, tmp_path):
    records = with_pictures
    ids = [records.incidents.append(incident(withheld=PICTURE)) for _ in range(2)]
    records.incidents.decide(ids[0], "no_copy", "anna")
    negative = records.negatives.add(ids[0])
    assert records.purge_incident(ids[0], "the person asked for it") == 3
    assert records.incidents.get(ids[0]).incident.prompt is None
    assert records.negatives.list() == []
    assert records.incidents.get(ids[1]).incident.prompt == "a fox"
    assert records.verify().problems == []
    records.export(tmp_path / "all.jsonl")
    last = json.loads((tmp_path / "all.jsonl").read_text().splitlines()[-1])
    assert json.loads(last["body"])["why"] == "the person asked for it"
    assert [negative, "picture"] in json.loads(last["body"])["purged"]
    with pytest.raises(RecordsError, match="no record 'inc-0'"):
        records.purge_incident("inc-0", "x")


def test_an_export_can_be_verified_without_the_database(records, incident, tmp_path):
    ids = [records.incidents.append(incident(f"fox {i}")) for i in range(3)]
    records.incidents.decide(ids[0], "copy", "anna")
    head = records.verify().head
    assert records.export(tmp_path / "all.jsonl") == 4
    assert records.export(tmp_path / "all.parquet") == 4
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert lines == pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["hash"] for row in lines] == [row_hash(row) for row in lines]
    assert [row["previous"] for row in lines[1:]] == [row["hash"] for row in lines[:-1]]
    assert lines[-1]["hash"] == head
    assert "fox 1" in lines[1]["texts"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".", "all"))) == [
        "all.jsonl",
        "all.parquet",
    ]


def test_an_export_that_cannot_be_written_says_so(records, tmp_path):
    with pytest.raises(InputError, match=r"jsonl, \.parquet"):
        records.export(tmp_path / "all.csv")
    with pytest.raises(InputError, match="missing"):
        records.export(tmp_path / "missing" / "all.jsonl")
