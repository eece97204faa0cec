"""Encoders give unit-length embeddings, gradients, and a fingerprint that changes with the weights."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    SiglipTextConfig,
    SiglipVisionConfig,
)

from steerclear import Guard
from steerclear.encoders import check_embedding, encoder_name, load_encoder
from steerclear.encoders.pretrained import LatentEncoder, SscdEncoder, TransformersEncoder
from steerclear.errors import ConfigError, EncoderError, LibraryError
from steerclear.fingerprints import weights_fingerprint
from steerclear.library import Library, add
from steerclear.loading import open_encoders
from steerclear.testing import tiny_pipeline

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**SMALL, "image_size": 32, "patch_size": 16}
TEXT = {
    **SMALL,
    "vocab_size": 100,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def models():
    return {
        "clip": CLIPModel(
            CLIPConfig(
                text_config=CLIPTextConfig(**TEXT).to_dict(),
                vision_config=CLIPVisionConfig(**VISION).to_dict(),
                projection_dim=8,
            )
        ),
        "siglip": SiglipModel(
            SiglipConfig(
                text_config=SiglipTextConfig(**TEXT).to_dict(),
                vision_config=SiglipVisionConfig(**VISION).to_dict(),
            )
        ),
        "dinov2": Dinov2Model(Dinov2Config(**{**VISION, "patch_size": 14, "image_size": 28})),
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for name, model in models().items():
        model.save_pretrained(root / name)
        side = model.config.vision_config.image_size if hasattr(model.config, "vision_config") else 28
        settings = {
            "crop_size": {"height": side, "width": side},
            "image_mean": [0.4, 0.5, 0.6],
            "image_std": [0.2] * 3,
        }
        (root / name / "preprocessor_config.json").write_text(json.dumps(settings))
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 8))
    torch.jit.script(network).save(str(root / "sscd.torchscript.pt"))
    tiny_pipeline("sd1").save_pretrained(root / "pipeline")
    return root


@pytest.fixture(
    params=[
        "transformers:clip",
        "transformers:siglip",
        "transformers:dinov2",
        "sscd:sscd.torchscript.pt",
        "vae:pipeline",
    ]
)
def name(request, folders, monkeypatch):
    monkeypatch.chdir(folders)
    return encoder_name(request.param)


def images(count=2, size=40, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_every_encoder_gives_unit_length_gradients_and_the_same_fingerprint_again(name):
    encoder = load_encoder(name, trust=True)
    pixels = images().requires_grad_()
    embedding = check_embedding(encoder(pixels), encoder, 2)
    embedding[:, 0].sum().backward()
    assert encoder.differentiable
    assert bool(pixels.grad.abs().sum() > 0)
    assert load_encoder(name, trust=True).fingerprint == encoder.fingerprint
    assert encoder.name == name


def test_an_embedding_does_not_depend_on_its_batch(name):
    encoder = load_encoder(name, trust=True)
    with torch.no_grad():
        together, alone = encoder(images(3)), encoder(images(3)[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-5)


def test_clip_features_and_preprocessing_are_those_of_transformers(folders):
    encoder = TransformersEncoder.load(folders / "clip")
    pixels = images(size=32)
    with torch.no_grad():
        want = encoder.model.get_image_features(
            pixel_values=(pixels - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / 0.2
        )
        want = want if isinstance(want, torch.Tensor) else want.pooler_output
        assert torch.allclose(encoder(pixels), want / want.norm(dim=1, keepdim=True), atol=1e-6)


def test_other_weights_have_another_fingerprint_and_a_library_refuses_them(folders, tmp_path):
    first = TransformersEncoder.load(folders / "clip", "eye")
    library = Library.create(tmp_path / "library", [first])
    models()["clip"].save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "preprocessor_config.json").write_text(
        (folders / "clip/preprocessor_config.json").read_text()
    )
    other = TransformersEncoder.load(tmp_path / "other", "eye")
    assert other.fingerprint != first.fingerprint
    with pytest.raises(LibraryError, match="cannot be compared"):
        library.check_encoder(other)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("resnet", "there is no encoder 'resnet'"),
        ("sscd:", "'sscd:' lacks its source"),
        ("sscd:nowhere.pt", "nowhere.pt"),
        ("transformers:./nowhere", "nowhere"),
    ],
)
def test_an_encoder_that_is_not_there_is_named(wrong, named):
    with pytest.raises(EncoderError, match=named):
        load_encoder(encoder_name(wrong))


def test_a_file_that_is_no_torchscript_is_named(tmp_path):
    (tmp_path / "sscd.pt").write_bytes(b"no network")
    with pytest.raises(EncoderError, match="no TorchScript"):
        SscdEncoder.load(tmp_path / "sscd.pt", trust=True)


def test_torchscript_is_not_opened_without_trust(tmp_path, monkeypatch):
    file = tmp_path / "sscd.pt"
    file.write_bytes(b"a program")
    monkeypatch.setattr("torch.jit.load", lambda *args, **kwargs: pytest.fail("it was opened"))
    with pytest.raises(ConfigError, match=r"format that carries code.*--trust"):
        load_encoder(f"sscd:{file}")


def test_a_torchscript_file_with_another_fingerprint_is_not_opened(tmp_path, monkeypatch):
    file = tmp_path / "sscd.pt"
    file.write_bytes(b"another program")
    monkeypatch.setattr("torch.jit.load", lambda *args, **kwargs: pytest.fail("it was opened"))
    with pytest.raises(EncoderError, match="it is another file, and was not opened"):
        load_encoder(f"sscd:{file}", fingerprint="0123456789abcdef", trust=True)


def test_pickled_weights_are_not_loaded(folders, tmp_path):
    pickled = tmp_path / "pickled"
    shutil.copytree(folders / "dinov2", pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="safetensors"):
        load_encoder(f"transformers:{pickled}")


def test_texts_lie_in_the_space_of_the_pictures_or_are_refused(folders):
    with pytest.raises(EncoderError, match="cannot embed texts"):
        TransformersEncoder.load(folders / "dinov2").texts(["a fox"])


def test_a_library_of_two_encoders_opens_where_both_are_named_and_asks_to_be_calibrated(
    folders, tmp_path, monkeypatch
):
    monkeypatch.chdir(folders)
    names = [encoder_name("vae:pipeline"), encoder_name("transformers:dinov2")]
    encoders = [load_encoder(name) for name in names]
    library = Library.create(tmp_path / "library", encoders)
    picture = tmp_path / "picture.png"
    tiny = tiny_pipeline("sd1")
    tiny("a fox", num_inference_steps=2, generator=torch.Generator().manual_seed(1)).images[0].save(picture)
    add(library, [picture], encoders)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="a name in a file loads nothing"):
        open_encoders(Library.open(tmp_path / "library"))
    with pytest.raises(ConfigError, match="dinov2"):  # the model is named, so its autoencoder is at hand
        Guard.from_pretrained(folders / "pipeline", library=tmp_path / "library")
    with pytest.raises(LibraryError, match="steerclear calibrate"):
        Guard.from_pretrained(folders / "pipeline", library=tmp_path / "library", encoder=names[1])
    thresholds = {"nearest": 0.999, f"nearest {names[1]}": 0.999, "pixel": 0.99, "tiled": 0.99}
    library.write_note("calibration", {"thresholds": thresholds})
    guard = Guard.from_pretrained(folders / "pipeline", library=tmp_path / "library", encoder=names)
    detections = guard.check(
        [tiny("a fox", num_inference_steps=2, generator=torch.Generator().manual_seed(1)).images[0]]
    )[0]
    assert [(d.filter, d.flagged) for d in detections] == [(n, True) for n in (*thresholds, "copy")]


def test_a_library_for_a_model_is_made_with_its_autoencoder_which_the_guard_has_at_hand(
    folders, tmp_path, monkeypatch
):
    from typer.testing import CliRunner

    from steerclear import loading
    from steerclear.cli.library import app

    picture = tmp_path / "picture.png"
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(picture)
    uri = str(tmp_path / "library")
    result = CliRunner().invoke(
        app, ["add", str(picture), "--library", uri, "--model", str(folders / "pipeline")]
    )
    assert result.exit_code == 0, result.output
    library = Library.open(uri)
    assert [spec.name for spec in library.encoders] == [encoder_name(f"vae:{folders / 'pipeline'}")]
    library.write_note("calibration", {"thresholds": {"nearest": 0.99, "pixel": 0.9, "tiled": 0.9}})
    monkeypatch.setattr(loading, "load_encoder", None)  # the model need not be loaded a second time
    guard = Guard.from_pretrained(folders / "pipeline", library=uri)
    assert guard.check([Image.open(picture)])[0][0].flagged


def test_a_fingerprint_does_not_depend_on_the_precision_that_weights_are_held_in():
    module = torch.nn.Linear(4, 4).half()
    half = weights_fingerprint(module, "")
    assert weights_fingerprint(module.float(), "") == half


def test_the_latent_encoder_takes_a_loaded_pipeline():
    encoder = LatentEncoder.of(tiny_pipeline("sd1"), size=64)
    assert check_embedding(encoder(images()), encoder, 2).shape == (2, encoder.dim)
