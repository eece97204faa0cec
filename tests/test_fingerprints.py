"""Fingerprints of models."""

from __future__ import annotations

import pytest

from steerclear.errors import ModelError
from steerclear.fingerprints import model_fingerprint


def test_a_models_fingerprint_follows_names_and_contents_of_its_weights(tmp_path):
    def model(name: str, files: dict[str, bytes]) -> str:
        for file, content in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_bytes(content)
        return model_fingerprint(tmp_path / name)

    first = model("first", {"unet/a.safetensors": b"1", "vae/b.safetensors": b"2", "README.md": b"x"})
    assert (len(first), first) == (
        16,
        model("second", {"vae/b.safetensors": b"2", "unet/a.safetensors": b"1"}),
    )
    others = [
        model("third", {"unet/a.safetensors": b"2", "vae/b.safetensors": b"1"}),
        model("fourth", {"unet/c.safetensors": b"1", "vae/b.safetensors": b"2"}),
        model("fifth", {"unet/a.safetensors": b"1"}),
    ]
    assert len({first, *others}) == 4
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no \.safetensors files"):
        model_fingerprint(tmp_path / "empty")
