"""Each odd or hostile input has its right outcome, and none stops what comes with it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from corpus import FAILED, READ, SKIPPED, Case, Listing, Words, commands, drawing, files, listings, saved

from steerclear.cli import main
from steerclear.errors import ImageError, InputError
from steerclear.library import IngestReport, Library, add, read_image
from steerclear.library.images import MAX_PIXELS
from steerclear.library.prepare import Prepared, Preprocessor
from steerclear.library.sources import discover
from steerclear.testing import FakeEncoder

FILES = files()


def shown(name: str | bytes) -> str:
    return ascii(name)[:80]


@dataclass
class Added:
    """What became of the whole folder, added at once."""

    report: IngestReport
    library: Library
    path: dict[str | bytes, str]


@pytest.fixture(scope="module")
def added(tmp_path_factory) -> Added:
    folder = tmp_path_factory.mktemp("corpus")
    path = {case.name: case.write(folder / "all") for case in FILES}
    encoder = FakeEncoder()
    library = Library.create(folder / "library", [encoder])
    return Added(add(library, [folder / "all"], [encoder]), library, path)


def test_the_corpus_is_large_and_no_two_files_are_the_same_case():
    assert len(FILES) + len(listings()) + len(commands()) >= 200
    assert len({case.name for case in FILES}) == len(FILES)


@pytest.mark.parametrize("case", FILES, ids=lambda case: f"{case.outcome}:{shown(case.name)}")
def test_a_file_in_a_folder_has_its_right_outcome(case: Case, added: Added):
    path = added.path[case.name]
    failed = dict(added.report.failed)
    if case.outcome == READ:
        assert path not in failed
        difference = np.asarray(read_image(path).resize((64, 64)), float) - np.asarray(drawing(), float)
        assert abs(difference).mean() < 12  # of 255
    elif case.outcome == FAILED:
        assert re.search(case.says, failed[path])
        assert "\n" not in failed[path]
    else:
        assert path not in failed
        if not Path(path).is_dir() and case.says != "hidden picture":
            with pytest.raises(ImageError):
                read_image(path)


def test_all_that_is_readable_went_in_and_all_else_is_counted(added: Added):
    by_outcome = {outcome: [c for c in FILES if c.outcome == outcome] for outcome in (READ, FAILED, SKIPPED)}
    assert sorted(item.source for item in added.library.items()) == sorted(
        added.path[case.name] for case in by_outcome[READ]
    )
    assert added.report.skipped_duplicates == []
    assert len(added.report.failed) == len(by_outcome[FAILED])
    kinds = [case.says for case in by_outcome[SKIPPED]]
    assert added.report.skipped == {kind: kinds.count(kind) for kind in kinds}


def test_an_id_is_the_whole_stem_of_the_files_name(added: Added):
    ids = {item.source: item.id for item in added.library.items()}
    assert ids[added.path["names/art#1.png"]] == "art#1"
    assert ids[added.path["names/shard.tar#1.png"]] == "shard.tar#1"


@pytest.mark.parametrize("listing", listings(), ids=lambda listing: listing.name)
def test_a_bad_row_of_a_list_does_not_stop_the_others(listing: Listing, tmp_path):
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "good.png").write_bytes(saved("PNG"))
    path = tmp_path / "list" / listing.name
    listing.write(path)
    if listing.refused:
        with pytest.raises(InputError, match=listing.says[0]):
            discover([path])
        return
    seen = discover([path])
    prepare = Preprocessor(
        defaults={"owner": "", "licence": "", "note": "", "tags": (), "policy": "steer"},
        captions={},
        max_pixels=MAX_PIXELS,
        sizes=frozenset((16,)),
        known_hashes=set(),
    )
    results = [prepare(source) for source in seen.sources]
    good = [result for result in results if isinstance(result, Prepared)]
    reasons = [result.reason for result in results if not isinstance(result, Prepared)]
    reasons += [reason for _, reason in seen.failed]
    for says, reason in zip(listing.says, reasons, strict=True):
        assert re.search(says, reason)
        assert "\n" not in reason
    assert len(good) == listing.good


@pytest.mark.parametrize("words", commands(), ids=lambda words: words.name)
def test_a_command_line_is_refused_in_one_line(words: Words, tmp_path, capsys):
    (tmp_path / "good.png").write_bytes(saved("PNG"))
    for name, content in (words.files or {}).items():
        (tmp_path / name).write_bytes(content)
    code = main([word.replace("{folder}", str(tmp_path)) for word in words.words])
    err = capsys.readouterr().err
    assert code == words.code
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(words.says, err)
    assert "damaged" not in err or "recipe" in err
    assert not (tmp_path / "library").exists()
