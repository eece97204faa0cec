"""The negative bank: pictures that were flagged and that a reviewer has overruled."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from steerclear.errors import ConfigError, InputError, RecordsError
from steerclear.records import Keep, Records

PICTURE = Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 50).convert("RGB")


def overruled(records, incident, **values):
    id = records.incidents.append(incident(**values))
    records.incidents.decide(id, "no_copy", "anna")
    return id


def test_an_overruled_thumbnail_or_the_whole_picture_goes_into_the_bank(with_pictures, incident):
    records = with_pictures
    small = overruled(records, incident, withheld=PICTURE)
    whole = overruled(records, incident, item="owl-2")
    ids = [records.negatives.add(small), records.negatives.add(whole, PICTURE)]
    listed = records.negatives.list()
    assert [negative.id for negative in listed] == ids
    assert [negative.size for negative in listed] == [(256, 171), (300, 200)]
    assert [(negative.incident, negative.item) for negative in listed] == [(small, "fox-1"), (whole, "owl-2")]
    assert Image.open(io.BytesIO(records.negatives.picture(ids[1]))).tobytes() == PICTURE.tobytes()
    assert records.verify().problems == []


def test_only_what_a_reviewer_has_overruled_goes_in(with_pictures, incident):
    records = with_pictures
    id = records.incidents.append(incident(withheld=PICTURE))
    with pytest.raises(RecordsError, match="no reviewer has overruled"):
        records.negatives.add(id)
    records.incidents.decide(id, "copy", "anna")
    with pytest.raises(RecordsError, match="no reviewer has overruled"):
        records.negatives.add(id)
    bare = overruled(records, incident)
    with pytest.raises(InputError, match="give the picture itself"):
        records.negatives.add(bare)


def test_a_picture_leaves_the_bank_when_it_is_taken_out_or_its_decision_revised(with_pictures, incident):
    records = with_pictures
    ids = [overruled(records, incident, withheld=PICTURE) for _ in range(2)]
    first, second = (records.negatives.add(id) for id in ids)
    records.negatives.remove(first)
    assert [negative.id for negative in records.negatives.list()] == [second]
    with pytest.raises(RecordsError, match="no picture"):
        records.negatives.remove(first)
    records.incidents.decide(ids[1], "copy", "ben", revise=True)
    assert records.negatives.list() == []
    assert records.verify().problems == []


def test_the_bank_is_exported_as_pictures_with_an_index(with_pictures, incident, tmp_path):
    records = with_pictures
    incident_id = overruled(records, incident, withheld=PICTURE)
    id = records.negatives.add(incident_id)
    files = records.negatives.export(tmp_path / "out")
    assert files == [tmp_path / "out" / f"{id}.png"]
    with Image.open(files[0]) as written:
        assert written.size == (256, 171)
    row = json.loads((tmp_path / "out" / "negatives.jsonl").read_text())
    assert (row["file"], row["incident"], row["item"]) == (f"{id}.png", incident_id, "fox-1")
    with pytest.raises(InputError, match="is not empty"):
        records.negatives.export(tmp_path / "out")


def test_the_bank_needs_the_key(url, keep, incident):
    with Records.open(url) as records:
        id = overruled(records, incident)
        with pytest.raises(ConfigError, match="no key is set"):
            records.negatives.add(id, PICTURE)
    with Records.open(url, keep) as records:
        negative = records.negatives.add(id, PICTURE)
    with Records.open(url, Keep(key=bytes(32))) as records, pytest.raises(RecordsError, match="this key"):
        records.negatives.picture(negative)
