"""A library built with a model's own copy descriptor, and what a trained model folder says of itself."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

from steerclear import Guard
from steerclear.cli.opening import open_encoders, open_library, usual_guidance
from steerclear.cli.recipe import USUAL_GUIDANCE
from steerclear.embedded import LIBRARY_FOLDER, MODEL_FOLDER
from steerclear.encoders import descriptor
from steerclear.encoders.embedded import CopyDescriptor
from steerclear.errors import LibraryError
from steerclear.library import Library, Source, add
from steerclear.loading import embedded_calibration


@pytest.fixture
def trained(tmp_path):
    """A folder with a model's descriptor and a library of one picture that was built with it."""
    torch.manual_seed(0)
    folder = tmp_path / "model" / "descriptor"
    descriptor.save(descriptor.DescriptorNetwork((8, 16)), 64, folder)
    encoder = CopyDescriptor.load(folder)
    Image.radial_gradient("L").convert("RGB").save(tmp_path / "disc.png")
    library = Library.create(tmp_path / "library", [encoder])
    add(library, [Source("disc.png", (tmp_path / "disc.png").read_bytes, {"id": "disc"})], [encoder])
    return tmp_path


def test_it_opens_beside_that_model_and_not_without_it(trained):
    library = open_library(str(trained / "library"))
    encoders = open_encoders(library, trained / "model")
    assert [encoder.fingerprint for encoder in encoders] == [spec.fingerprint for spec in library.encoders]
    with pytest.raises(LibraryError, match=r"built with encoder 'descriptor'.* name the model folder"):
        open_encoders(library)


def test_pictures_are_checked_against_it_where_the_model_is_named(run, trained):
    words = ("check", trained / "disc.png", "--library", trained / "library")
    without = run(*words)
    assert without.code == 2
    assert "name the model folder" in without.stderr
    result = run(*words, "--model", trained / "model")
    assert result.code == 3
    assert json.loads(result.stdout)["detections"][0]["matched"] == "disc"


def test_a_model_folder_that_is_not_there_is_named(run, trained):
    result = run("check", trained / "disc.png", "--model", trained / "nowhere")
    assert result.code == 2
    assert "there is no model folder" in result.stderr
    assert "nowhere" in result.stderr


@pytest.mark.parametrize(
    ("written", "guidance"),
    [
        ('{"guidance": 3}', 3.0),
        ('{"guidance": "much"}', USUAL_GUIDANCE),
        ("[]", USUAL_GUIDANCE),
        ("{", USUAL_GUIDANCE),
    ],
)
def test_a_model_is_asked_with_the_guidance_that_its_recipe_names(tmp_path, written, guidance):
    (tmp_path / "recipe.json").write_text(written)
    assert usual_guidance(str(tmp_path)) == guidance


def test_the_embedded_model_names_its_own_guidance_and_others_have_the_usual_one(tmp_path):
    assert usual_guidance("embedded") == 4.0
    assert usual_guidance(str(tmp_path)) == usual_guidance("somebody/model") == USUAL_GUIDANCE


def test_a_trained_folder_pulls_to_what_its_own_calibration_found_clear(tmp_path):
    shutil.copytree(MODEL_FOLDER, tmp_path / "model")
    shutil.copytree(LIBRARY_FOLDER, tmp_path / "library")
    guard = Guard.from_pretrained(tmp_path / "model", library=tmp_path / "library")
    assert guard.alternatives == tuple(embedded_calibration()["alternatives"])
    assert guard.early is not None
    with (tmp_path / "model" / "unet" / "diffusion_pytorch_model.safetensors").open("r+b") as weights:
        weights.seek(-2, 2)
        weights.write(b"\x00\x3c")  # another model's are no calibration of this one
    other = Guard.from_pretrained(tmp_path / "model", library=tmp_path / "library")
    assert other.alternatives == ()
    assert other.early is None
