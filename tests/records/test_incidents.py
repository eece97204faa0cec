"""Incidents: what is kept of a request that was not clear, and the reviewers' queue."""

from __future__ import annotations

import hashlib
import io
import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa
from PIL import Image
from records_doubles import report

from steerclear import Attempt, Detection, Outcome
from steerclear.errors import ConfigError, InputError, RecordsError
from steerclear.records import Incident, Keep, Records


def every_scope(url):
    engine = sa.create_engine(url)
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        rows = [str(row) for table in tables.sorted_tables for row in connection.execute(table.select())]
    engine.dispose()
    return "\n".join(rows)


def test_an_incident_holds_the_whole_report_and_what_was_handed_out(records):
    failed = Detection("copy", flagged=True, score=float("nan"), threshold=1.0, error="it could not look")
    attempt = Attempt(
        "rewrite",
        seed=8,
        nfe=25,
        seconds=0.5,
        before=(failed,),
        after=(Detection("copy", flagged=False, score=0.1, threshold=1.0),),
        stopped="a new text",
    )
    told = report(outcome=Outcome.STEERED, attempts=(attempt,), library_version=4)
    settings = {"num_inference_steps": 25, "negative_prompt": "blurry", "num_images_per_prompt": 2}
    id = records.incidents.append(
        Incident.of(told, settings=settings, key="k1", request="r1", handed_out=b"the file", id="inc-mine")
    )
    logged = records.incidents.get(id)
    assert id == "inc-mine"
    assert logged.state == "open"
    assert logged.incident.settings == settings
    assert (logged.incident.prompt, logged.incident.outcome, logged.incident.matched) == (
        "a fox",
        "steered",
        "fox-1",
    )
    assert logged.incident.handed_out == hashlib.sha256(b"the file").hexdigest()
    assert (logged.incident.key, logged.incident.request) == ("k1", "r1")
    said = logged.incident.report["attempts"][0]
    assert said["stopped"] == "a new text"
    assert said["before"][0] | {"where": None} == {
        "filter": "copy",
        "flagged": True,
        "score": None,
        "threshold": 1.0,
        "matched": None,
        "error": "it could not look",
        "where": None,
    }
    assert logged.incident.report["library_version"] == 4


def test_prompts_of_any_characters_come_back_as_they_were(records, incident):
    for prompt in ("naïve 狐 🦊", "nul \x00 byte", "half a pair \ud83e", 'quote " and \\'):
        id = records.incidents.append(incident(prompt))
        assert records.incidents.get(id).incident.prompt == prompt
    assert records.verify().problems == []


def test_a_clear_report_and_settings_that_json_cannot_write_are_refused(incident):
    with pytest.raises(InputError, match="no incident"):
        Incident.of(report(outcome=Outcome.CLEAR))
    with pytest.raises(InputError, match="what JSON can write"):
        incident(settings={"generator": object()})


def test_an_id_is_used_once(records, incident):
    records.incidents.append(incident(id="inc-1"))
    with pytest.raises(RecordsError, match="an id is used once"):
        records.incidents.append(incident(id="inc-1"))
    assert len(records.incidents.list()) == 1
    assert records.verify().problems == []


def test_with_hashes_alone_no_word_of_the_prompt_is_in_the_database(url, incident):
    with Records.open(url, Keep(prompts="hash")) as records:
        id = records.incidents.append(
            incident("zebrafish", settings={"negative_prompt": "quagga", "prefer": ["okapi"], "steps": 3})
        )
        logged = records.incidents.get(id)
    assert logged.incident.prompt is None
    assert logged.incident.prompt_sha256 == hashlib.sha256(b"zebrafish").hexdigest()
    assert logged.incident.settings == {
        "negative_prompt": None,
        "negative_prompt_sha256": hashlib.sha256(b"quagga").hexdigest(),
        "prefer": None,
        "prefer_sha256": [hashlib.sha256(b"okapi").hexdigest()],
        "steps": 3,
    }
    for word in ("zebrafish", "quagga", "okapi"):
        assert word not in every_scope(url)


def test_a_purge_takes_every_text_of_a_request(url, incident):
    with Records.open(url) as records:
        settings = {"negative_prompt": "quagga", "prefer": ["okapi", "(a picture)"], "steps": 3}
        id = records.incidents.append(incident("zebrafish", settings=settings))
        assert records.incidents.get(id).incident.settings == settings
        records.purge_incident(id, "asked for")
        assert records.incidents.get(id).incident.settings == dict.fromkeys(settings) | {"steps": 3}
    for word in ("zebrafish", "quagga", "okapi"):
        assert word not in every_scope(url)


def test_no_thumbnail_is_kept_unless_it_is_asked_for(records, incident):
    id = records.incidents.append(incident(withheld=Image.new("RGB", (64, 64), "red")))
    assert not records.incidents.get(id).has_thumbnail
    assert records.incidents.thumbnail(id) is None


def test_a_thumbnail_is_encrypted_and_opens_with_its_key_alone(url, keep, incident):
    picture = Image.effect_mandelbrot((400, 200), (-2, -1, 1, 1), 50).convert("RGB")
    with Records.open(url, keep) as records:
        id = records.incidents.append(incident(withheld=picture))
        opened = Image.open(io.BytesIO(records.incidents.thumbnail(id)))
        assert opened.size == (256, 128)
        other = records.incidents.append(incident(withheld=picture))
    assert "PNG" not in every_scope(url)
    with Records.open(url) as records, pytest.raises(ConfigError, match="no key is set"):
        records.incidents.thumbnail(id)
    with Records.open(url, Keep(key=bytes(32))) as records, pytest.raises(RecordsError, match="this key"):
        records.incidents.thumbnail(id)
    # a picture that was moved to another incident does not open there
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        moved = sa.text(
            "UPDATE contents SET value = (SELECT value FROM contents WHERE record = :a AND "
            "name = 'thumbnail') WHERE record = :b AND name = 'thumbnail'"
        )
        connection.execute(moved, {"a": id, "b": other})
    engine.dispose()
    with Records.open(url, keep) as records, pytest.raises(RecordsError, match="does not open"):
        records.incidents.thumbnail(other)


def test_thumbnails_without_a_key_are_refused():
    with pytest.raises(ConfigError, match="kept encrypted only"):
        Keep(pictures=timedelta(days=1))
    with pytest.raises(ConfigError, match="it needs 32"):
        Keep(key=b"short")


def test_the_oldest_incident_is_reviewed_first_and_never_by_two(records, incident):
    ids = [records.incidents.append(incident()) for _ in range(3)]
    assert records.incidents.claim("anna").id == ids[0]
    assert records.incidents.claim("ben").id == ids[1]
    assert records.incidents.claim("anna").id == ids[0]  # again, since she has not decided
    records.incidents.decide(ids[0], "copy", "anna")
    assert records.incidents.claim("anna").id == ids[2]
    assert records.incidents.claim("carla") is None
    assert [logged.state for logged in records.incidents.list()] == ["decided", "claimed", "claimed"]


def test_a_claim_runs_out_and_can_be_given_back(records, incident):
    id = records.incidents.append(incident())
    assert records.incidents.claim("anna", period=timedelta(seconds=-1)).id == id
    assert records.incidents.claim("ben").id == id
    with pytest.raises(RecordsError, match="'ben' is reviewing"):
        records.incidents.decide(id, "copy", "anna")
    records.incidents.release(id, "anna")  # it is not hers
    assert records.incidents.claim("anna") is None
    records.incidents.release(id, "ben")
    assert records.incidents.claim("anna").id == id


def test_a_reviewer_takes_an_incident_of_their_choice_and_gives_back_the_one_before(records, incident):
    first, second, third = (records.incidents.append(incident()) for _ in range(3))
    assert records.incidents.claim("anna").id == first
    assert records.incidents.take(second, "anna").claimed_by == "anna"
    assert records.incidents.get(first).state == "open"
    with pytest.raises(RecordsError, match="'anna' is reviewing"):
        records.incidents.take(second, "ben")
    records.incidents.decide(third, "copy", "ben")
    assert records.incidents.take(third, "anna").claimed_by is None  # who looks back claims nothing
    assert records.incidents.get(second).state == "open"
    with pytest.raises(RecordsError, match="no incident"):
        records.incidents.take("inc-none", "anna")


def test_incidents_are_listed_backwards_from_a_place(records, incident):
    ids = [records.incidents.append(incident()) for _ in range(3)]
    last = records.incidents.get(ids[2]).seq
    assert [row.id for row in records.incidents.list(before=last)] == [ids[1], ids[0]]
    assert [row.id for row in records.incidents.list(before=last + 1, limit=1)] == [ids[2]]


def test_reviewers_who_ask_at_the_same_moment_get_different_incidents(url, incident):
    with Records.open(url) as first, Records.open(url) as second:
        ids = [first.incidents.append(incident()) for _ in range(8)]
        claimed = {}

        def ask(name, records):
            claimed[name] = records.incidents.claim(name).id

        threads = [
            threading.Thread(target=ask, args=(f"reviewer {i}", (first, second)[i % 2])) for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(claimed.values()) == sorted(ids)


def test_a_decision_is_a_record_and_the_last_one_counts(records, incident):
    id = records.incidents.append(incident())
    records.incidents.decide(id, decision="copy", reviewer="anna", note="same pose")
    with pytest.raises(RecordsError, match="'anna' has decided"):
        records.incidents.decide(id, "no_copy", "ben")
    decided = records.incidents.decide(
        id, decision="no_copy", reviewer="ben", note="a common pose", revise=True
    ).decided
    assert (decided.decision, decided.reviewer, decided.note) == ("no_copy", "ben", "a common pose")
    verdict = records.verify()
    assert (verdict.records, verdict.problems) == (3, [])


def test_wrong_decisions_are_refused_and_recorded_nowhere(records, incident):
    id = records.incidents.append(incident())
    with pytest.raises(InputError, match="copy and no_copy"):
        records.incidents.decide(id, "maybe", "anna")
    with pytest.raises(InputError, match="reviewer's name"):
        records.incidents.decide(id, "copy", " ")
    with pytest.raises(InputError, match="too long"):
        records.incidents.decide(id, decision="copy", reviewer="anna", note="x" * 5000)
    with pytest.raises(RecordsError, match="no incident 'inc-0'"):
        records.incidents.decide("inc-0", "copy", "anna")
    assert records.verify().records == 1


def test_incidents_are_listed_page_by_page_by_state_and_by_item(records, incident):
    ids = [records.incidents.append(incident(item=("fox", "owl")[i % 2])) for i in range(5)]
    records.keys.add("between")  # other records do not show among them
    ids.append(records.incidents.append(incident(item="fox")))
    records.incidents.decide(ids[0], "copy", "anna")
    first = records.incidents.list(limit=2)
    rest = records.incidents.list(after=first[-1].seq)
    assert [logged.id for logged in (*first, *rest)] == ids
    assert [logged.id for logged in records.incidents.list(state="open")] == ids[1:]
    assert [logged.id for logged in records.incidents.list(state="decided")] == ids[:1]
    assert [logged.id for logged in records.incidents.list(item="owl")] == [ids[1], ids[3]]
    with pytest.raises(InputError, match="the state is 'new'"):
        records.incidents.list(state="new")
