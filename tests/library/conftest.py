"""Pictures, encoders and libraries that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from library_doubles import TinyEncoder, write_pictures

from steerclear.library import Library, add


@pytest.fixture
def encoder() -> TinyEncoder:
    return TinyEncoder()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Five different pictures in a folder `art`."""
    return write_pictures(tmp_path / "art", range(5))


@pytest.fixture
def library(tmp_path: Path, encoder: TinyEncoder, pictures: list[Path]) -> Library:
    """A library of the five pictures."""
    library = Library.create(tmp_path / "library", [encoder])
    add(library, pictures, [encoder], owner="Acme")
    return library


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
