"""Old import paths of documented names work for one release, and say where the name is now."""

from __future__ import annotations

from importlib import import_module

import pytest

from guard_doubles import (
    library_protecting,
    use_tiny_descriptor,
)
from steerclear.embedded import MODEL_FOLDER
from steerclear.testing import tiny_pipeline


@pytest.fixture
def pipe():
    return tiny_pipeline("sd1")


@pytest.fixture
def library(pipe, tmp_path):
    return library_protecting(pipe, tmp_path)


@pytest.fixture(autouse=True)
def tiny_descriptor(monkeypatch):
    use_tiny_descriptor(monkeypatch)


OLD_PATHS = {
    "steerclear.emoji": (
        "MODEL_FOLDER",
        "PROTECTED_FOLDER",
        "read_prompts",
        "ASSETS",
        "BYSTANDER_FOLDER",
        "load_sibling",
    ),
    "steerclear.loading": ("load_pipeline", "latent_like", "LIBRARY_FOLDER", "is_embedded"),
    "steerclear.filters.base": ("to_tensor", "to_image"),
    "steerclear.filters.pixel": ("Everything", "Nominated"),
    "steerclear.encoders.base": ("fit",),
    "steerclear.nudge.objective": ("cosines",),
    "steerclear.generators": ("PipelineGenerator",),
    "steerclear.output": ("SheetRow", "compare_sheet", "model_fingerprint"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in OLD_PATHS.items() for n in names])
def test_an_old_import_path_still_works(module, name):
    assert getattr(import_module(module), name) is not None


def test_an_old_import_path_says_where_the_name_is_now():
    with pytest.warns(DeprecationWarning, match=r"has moved to steerclear\.embedded\.MODEL_FOLDER"):
        assert import_module("steerclear.emoji").MODEL_FOLDER == MODEL_FOLDER
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = import_module("steerclear.emoji").nonsense


def test_the_filters_that_the_old_page_asked_for_still_come(library):
    from steerclear.loading import library_filters, open_encoders

    with pytest.warns(DeprecationWarning, match="Guard.wrap"):
        filters = library_filters(library, open_encoders(library), "strict")
    assert [f.name for f in filters] == ["strict nearest", "strict pixel", "strict tiled", "strict copy"]
