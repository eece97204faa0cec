"""A library that was built with a model's own copy descriptor, as `train-emoji` makes one."""

from __future__ import annotations

import pytest
import torch

from steerclear.cli.recipe import open_library
from steerclear.encoders import descriptor
from steerclear.encoders.embedded import CopyDescriptor
from steerclear.errors import LibraryError
from steerclear.library import Library


def test_it_opens_beside_that_model_and_not_without_it(tmp_path):
    torch.manual_seed(0)
    own = tmp_path / "model" / "descriptor"
    descriptor.save(descriptor.DescriptorNetwork((8, 16)), 64, own)
    Library.create(tmp_path / "library", [CopyDescriptor.load(own)])
    assert open_library(str(tmp_path / "library"), tmp_path / "model").encoders
    with pytest.raises(LibraryError, match="built with encoder 'descriptor'"):
        open_library(str(tmp_path / "library"))
