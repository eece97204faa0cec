"""A library says that it must be calibrated exactly when no guard can use it yet."""

from __future__ import annotations

import pytest
from PIL import Image
from typer.testing import CliRunner

from steerclear.cli.library import app
from steerclear.encoders import load_encoder
from steerclear.errors import LibraryError
from steerclear.filters.library import needs_calibration
from steerclear.library import Library, add
from steerclear.loading import guard_parts
from steerclear.testing import tiny_pipeline

THRESHOLDS = {"nearest": 0.9, "nearest clip": 0.9, "pixel": 0.9, "tiled": 0.9}


@pytest.fixture
def picture(tmp_path):
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "disc.png")
    return tmp_path / "disc.png"


@pytest.mark.parametrize(
    ("encoders", "note", "needed"),
    [
        (["descriptor"], None, False),
        (["clip"], None, True),
        (["descriptor", "clip"], None, True),
        (["clip"], {"thresholds": THRESHOLDS}, False),
        (["descriptor", "clip"], {"thresholds": THRESHOLDS}, False),
        (["descriptor"], {"alternatives": []}, True),
    ],
)
def test_a_library_needs_calibration_exactly_when_no_guard_opens_it(
    tmp_path, picture, encoders, note, needed
):
    loaded = [load_encoder(name) for name in encoders]
    library = Library.create(tmp_path / "library", loaded)
    add(library, picture, loaded)
    if note is not None:
        library.write_note("calibration", note)
    assert needs_calibration(library) == needed
    if needed:
        with pytest.raises(LibraryError, match=r"no threshold of .*; run: steerclear calibrate --library"):
            guard_parts(tiny_pipeline(), library)
    else:
        assert len(guard_parts(tiny_pipeline(), library).filters) == len(encoders) + 3


@pytest.mark.parametrize(("encoder", "needed"), [("descriptor", False), ("clip", True)])
def test_add_says_at_once_that_calibrate_comes_next(tmp_path, picture, encoder, needed):
    uri = str(tmp_path / "library")
    words = ["add", str(picture), "--library", uri, "--encoder", encoder]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (
        0,
        "1 added, 0 already there, 0 failed; the library holds 1\n",
    )
    assert (f"steerclear calibrate --library {uri} --clean" in result.stderr) == needed
    assert ("this library has no thresholds for its encoders yet" in result.stderr) == needed
    Library.open(uri).write_note("calibration", {"thresholds": THRESHOLDS})
    assert "calibrate" not in CliRunner().invoke(app, words).stderr
