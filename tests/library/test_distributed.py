"""Embedding on a Ray cluster makes the same table as one process does."""

from __future__ import annotations

from pathlib import Path

import pytest
from library_doubles import write_pictures
from PIL import Image

from steerclear.library import Library, add
from steerclear.testing import FakeEncoder

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, configure_logging=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, of sockets and of what its next release does
def test_two_actors_make_the_table_that_one_process_makes(cluster, tmp_path):
    encoder = FakeEncoder()
    pictures = write_pictures(tmp_path / "art", range(7))
    (tmp_path / "art" / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 40), "white").save(tmp_path / "art" / "blank.png")
    tables, reports = [], []
    for name, actors in (("alone", 0), ("cluster", 2)):
        library = Library.create(tmp_path / name, [encoder])
        add(library, pictures[:1], [encoder])
        reports.append(add(library, [tmp_path / "art"], [encoder], owner="Acme", batch=2, ray_actors=actors))
        tables.append(library.export().drop_columns(["added"]))
    assert reports[0] == reports[1]
    assert len(reports[1].added) == 6
    assert len(reports[1].skipped_duplicates) == 1
    assert [Path(path).name for path, _ in reports[1].failed] == ["blank.png", "broken.png"]
    assert tables[0].equals(tables[1])
