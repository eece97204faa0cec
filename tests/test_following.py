"""A guard protects what its library holds when a request begins, and the report says which version it was."""

from __future__ import annotations

import shutil

import pytest
import torch

from steerclear import Guard, Library, loading
from steerclear.errors import LibraryError
from steerclear.filters import CustomFilter, PixelFilter, PromptFilter
from steerclear.filters.early import EarlyVerdict
from steerclear.fingerprints import file_fingerprint
from steerclear.following import renewed
from steerclear.library import add
from steerclear.nudge import Ladder
from steerclear.protected import Protected
from steerclear.testing import FakeEncoder, MockFilter, tiny_pipeline
from steerclear.types import Outcome

FAST = {"num_inference_steps": 2, "guidance_scale": 4.0}
ENCODER = FakeEncoder(name="descriptor")
EARLY = {
    "threshold": 2.0,
    "step": 0,
    "settings": {"schedulers": ["PNDMScheduler"], "steps": [1, 9], "guidance": [1, 9], "spacing": None},
}
THRESHOLDS = {"nearest": 0.999999, "pixel": 0.9999, "tiled": 0.9999, "copy": 1000.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def fake_descriptor(monkeypatch):
    """The tests' libraries are built with a tiny encoder under the embedded descriptor's name."""
    from steerclear.encoders.embedded import CopyDescriptor

    monkeypatch.setattr(CopyDescriptor, "default", classmethod(lambda cls, device="cpu": ENCODER))


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


@pytest.fixture
def pictures(pipe, tmp_path):
    """Files of what the pipeline makes of "a fox" and "an owl" with seed 0."""
    files = {}
    for name in ("fox", "owl"):
        files[name] = tmp_path / f"{name}.png"
        pipe(f"a {name}", generator=seeded(), **FAST).images[0].save(files[name])
    return files


@pytest.fixture
def library(pictures, tmp_path):
    """A calibrated library that holds the fox."""
    library = Library.create(tmp_path / "library", [ENCODER])
    add(library, pictures["fox"], [ENCODER])
    library.write_note("calibration", {"thresholds": THRESHOLDS})
    return library


@pytest.fixture
def wrapped(pipe, library):
    """A guard that hands out nothing in the place of a copy, so that a copy always ends withheld."""
    return Guard.wrap(pipe, library.uri, ladder=Ladder(()))


def outcome(guard, name):
    report = guard(f"a {name}", generator=seeded(), **FAST).reports[0]
    return report.outcome, report.library_version


def by_each_filter(detections):
    return {d.filter: d.matched for d in detections if d.flagged}


def test_what_is_added_is_flagged_by_every_filter_from_the_next_request_on(wrapped, library, pictures):
    before = library.version
    assert outcome(wrapped, "owl") == (Outcome.CLEAR, before)
    add(Library.open(library.uri), pictures["owl"], [ENCODER])  # as another process does
    report = wrapped("a owl", generator=seeded(), **FAST).reports[0]
    assert by_each_filter(report.detections) == {"nearest": "owl", "pixel": "owl", "tiled": "owl"}
    assert report.library_version == library.version > before
    assert set(wrapped.protected.pictures) == {"fox", "owl"}
    assert {
        f.name: len(f.index) for f in (*wrapped.filters, *wrapped.strict) if f.name.endswith("nearest")
    } == {
        "nearest": 2,
        "strict nearest": 2,
    }
    copies = [f for f in (*wrapped.filters, *wrapped.strict) if f.name.endswith("copy")]
    assert [f.detector.side.ids for f in copies] == [("fox", "owl")] * 2


def test_what_is_removed_no_longer_counts(wrapped, library, pictures):
    add(library, pictures["owl"], [ENCODER])
    assert outcome(wrapped, "fox") == (Outcome.WITHHELD, library.version)
    library.remove(["fox"])
    assert outcome(wrapped, "fox") == (Outcome.CLEAR, library.version)
    assert set(wrapped.protected.pictures) == {"owl"}


def test_checking_finished_pictures_follows_too(wrapped, library, pictures, pipe):
    copy = pipe("a owl", generator=seeded(), **FAST).images[0]
    assert by_each_filter(wrapped.check([copy])[0]) == {}
    add(library, pictures["owl"], [ENCODER])
    assert set(by_each_filter(wrapped.check([copy])[0])) == {"nearest", "pixel", "tiled"}


def test_the_policy_of_what_is_added_holds(pipe, library, pictures):
    guard = Guard.wrap(pipe, library.uri)
    add(library, pictures["owl"], [ENCODER], policy="withhold")
    report = guard("a owl", generator=seeded(), **FAST).reports[0]
    assert report.reason == "the library's policy for 'owl' is to withhold"


def test_named_filters_over_the_library_follow_and_others_are_made_once(pipe, library, pictures):
    mine = MockFilter(False, name="mine")
    guard = Guard.wrap(pipe, library.uri, filters=["hash", "test_following:once", mine], ladder=Ladder(()))
    before = len(ONCE)
    add(library, pictures["owl"], [ENCODER])
    report = guard("a owl", generator=seeded(), **FAST).reports[0]
    assert by_each_filter(report.detections)["hash"] == "owl"
    assert len(ONCE) == before
    assert ONCE[-1] in guard.filters
    assert mine in guard.filters


ONCE: list[MockFilter] = []


def once():
    """A user's filter that has nothing to do with a library, and might load a network."""
    ONCE.append(MockFilter(False, name="once"))
    return ONCE[-1]


def test_a_guard_goes_on_while_its_library_is_compacted_and_purged(wrapped, library, pictures):
    add(library, pictures["owl"], [ENCODER])
    assert outcome(wrapped, "fox") == (Outcome.WITHHELD, library.version)
    library.compact(versions=1)
    assert outcome(wrapped, "fox") == (Outcome.WITHHELD, library.version)
    library.purge(["fox"], why="licence ended")
    assert outcome(wrapped, "fox") == (Outcome.CLEAR, library.version)


def test_nothing_is_built_again_while_the_version_is_the_same(wrapped, library, monkeypatch):
    parts = (*wrapped.filters, *wrapped.strict, wrapped.protected)
    looked = []
    newest = type(library).version.fget
    monkeypatch.setattr(Library, "version", property(lambda self: looked.append(1) or newest(self)))
    monkeypatch.setattr(Library, "_read", lambda *_: pytest.fail("the library must not be read again"))
    outcome(wrapped, "owl")
    wrapped.check([])
    assert looked == [1, 1]
    assert all(
        a is b for a, b in zip(parts, (*wrapped.filters, *wrapped.strict, wrapped.protected), strict=True)
    )


def test_encoders_are_not_loaded_again(wrapped, library, pictures, monkeypatch):
    monkeypatch.setattr(loading, "load_encoder", lambda *_: pytest.fail("the encoder is at hand"))
    add(library, pictures["owl"], [ENCODER])
    assert outcome(wrapped, "owl")[0] is Outcome.WITHHELD
    assert wrapped.filters[0].encoder is ENCODER


def test_a_library_that_loses_all_its_items_is_an_error_until_it_has_some_again(wrapped, library):
    version = library.version
    library.remove(["fox"])
    for _ in range(2):
        with pytest.raises(LibraryError, match=r"holds no items.*library add"):
            outcome(wrapped, "fox")
        with pytest.raises(LibraryError, match="holds no items"):
            wrapped.check([])
    library.restore(version)
    assert outcome(wrapped, "fox") == (Outcome.WITHHELD, library.version)


def test_a_library_that_is_gone_is_an_error_and_not_what_was_known_of_it(wrapped, library):
    shutil.rmtree(library.uri)
    with pytest.raises(LibraryError, match="there is no library"):
        outcome(wrapped, "owl")


def test_a_new_version_that_cannot_be_read_is_an_error(wrapped, library, pictures, tmp_path):
    before = set((tmp_path / "library" / "items.lance" / "data").iterdir())
    add(library, pictures["owl"], [ENCODER])
    for file in set((tmp_path / "library" / "items.lance" / "data").iterdir()) - before:
        file.write_bytes(b"damaged")
    with pytest.raises(LibraryError, match="is damaged"):
        outcome(wrapped, "owl")


def test_what_the_user_has_changed_on_the_guard_stays(wrapped, library, pictures, pipe):
    mine, protected = MockFilter(False, name="mine"), Protected(pipe, {})
    kept = [f for f in wrapped.filters if f.name != "tiled"]
    early = EarlyVerdict((), latents=torch.empty(0), threshold=2.0, step=0, settings=None)
    wrapped.filters, wrapped.protected, wrapped.early = (*kept, mine), protected, early
    add(library, pictures["owl"], [ENCODER])
    assert outcome(wrapped, "owl")[0] is Outcome.WITHHELD
    assert [f.name for f in wrapped.filters] == ["nearest", "pixel", "copy", "mine"]
    assert wrapped.filters[-1] is mine
    assert wrapped.protected is protected
    assert wrapped.early is early


def test_parts_that_the_user_built_stay_as_they_are(pipe, library, pictures):
    parts = loading.guard_parts(pipe, library)
    guard = Guard(pipe, parts.filters, protected=parts.protected, ladder=Ladder(()))
    add(library, pictures["owl"], [ENCODER])
    assert outcome(guard, "owl") == (Outcome.CLEAR, None)
    assert guard.library is None


def test_an_early_verdict_knows_what_is_added(wrapped, library, pictures, monkeypatch):
    """The verdict is built of a calibration that was made on this very model; the settings are the tests'."""
    library.write_note("calibration", {"thresholds": THRESHOLDS, "early": EARLY})
    monkeypatch.setattr(loading, "made_on", lambda *_: True)
    guard = Guard.wrap(wrapped.pipe, library)
    assert guard.early.ids == ("fox",)
    add(library, pictures["owl"], [ENCODER])
    guard.check([])
    assert (guard.early.ids, len(guard.early.latents)) == (("fox", "owl"), 2)


def test_what_the_guard_was_told_when_it_was_made_holds_for_what_is_added(pipe, library, pictures, tmp_path):
    """The model's folder, by which its calibration is known; a policy for every item; no early verdict."""
    weights = tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    note = library.read_note("calibration") | {"early": EARLY, "model": file_fingerprint(weights)}
    library.write_note("calibration", note)
    guard = Guard.wrap(pipe, library, model=tmp_path / "model", policy="withhold")
    no_early = Guard.wrap(pipe, library, model=tmp_path / "model", early=False)
    assert (guard.early.ids, no_early.early) == (("fox",), None)
    add(library, pictures["owl"], [ENCODER])
    report = guard("a owl", generator=seeded(), **FAST).reports[0]
    no_early.check([])
    assert report.reason == "the library's policy for 'owl' is to withhold"
    assert (guard.early.ids, no_early.early) == (("fox", "owl"), None)


def test_the_users_early_verdict_stays(pipe, library, pictures):
    mine = EarlyVerdict((), latents=torch.empty(0), threshold=2.0, step=0, settings=None)
    guard = Guard.wrap(pipe, library, early=mine)
    add(library, pictures["owl"], [ENCODER])
    guard.check([])
    assert guard.early is mine


def test_filters_are_renewed_by_what_they_are_and_not_by_their_place():
    """One name may belong to a filter of the library and to one of the user's."""
    old, new = (
        [PromptFilter.of([text]), CustomFilter("pixel", len, threshold)]
        for text, threshold in (("a", 0.1), ("b", 0.2))
    )
    users = CustomFilter("pixel", len, 0.9)
    assert renewed([*old, users], old, new) == (*new, users)
    assert renewed([users, old[1]], old, new) == (new[1], users)
    # the user's was handed over with the library's, and taken out since
    assert renewed(old, [*old, users], [*new, users]) == tuple(new)
    assert renewed([], [], [PixelFilter]) == (PixelFilter,)
