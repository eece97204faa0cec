"""A model folder that somebody else made runs no code: not by its index, its parts, nor its weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from steerclear.errors import ModelError
from steerclear.pipelines import load_pipeline
from steerclear.testing import tiny_pipeline

CODE = "open({mark!r}, 'w')\nfrom diffusers import {base}\nclass Evil({base}): pass\n"


class Program:
    """What a pickle runs when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def change(file, **changes):
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def evil_pipeline(folder, mark):
    (folder / "evil.py").write_text(CODE.format(mark=str(mark), base="StableDiffusionPipeline"))
    change(folder / "model_index.json", _class_name=["evil", "Evil"])


def evil_scheduler(folder, mark):
    (folder / "scheduler" / "evil.py").write_text(CODE.format(mark=str(mark), base="DDIMScheduler"))
    change(folder / "model_index.json", scheduler=["evil", "Evil"])


def evil_text_encoder(folder, mark):
    (folder / "text_encoder" / "evil.py").write_text(
        f"open({str(mark)!r}, 'w')\nfrom transformers import CLIPTextModel\nclass Evil(CLIPTextModel): pass\n"
    )
    change(folder / "text_encoder" / "config.json", auto_map={"AutoModel": "evil.Evil"}, model_type="evil")
    change(folder / "model_index.json", text_encoder=["transformers", "AutoModel"])


def evil_weights(folder, mark):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({**load_file(weights), "evil": Program(mark)}, weights.with_suffix(".bin"))
    weights.unlink()


def evil_text_weights(folder, mark):
    weights = folder / "text_encoder" / "model.safetensors"
    torch.save({**load_file(weights), "evil": Program(mark)}, weights.with_name("pytorch_model.bin"))
    weights.unlink()


KINDS = (evil_pipeline, evil_scheduler, evil_text_encoder, evil_weights, evil_text_weights)


@pytest.mark.parametrize("make_evil", KINDS, ids=lambda kind: kind.__name__)
def test_an_evil_model_folder_is_refused_and_nothing_of_it_runs(tmp_path, make_evil):
    folder, mark = tmp_path / "model", tmp_path / "ran"
    tiny_pipeline("sd1").save_pretrained(folder)
    assert load_pipeline(folder)
    make_evil(folder, mark)
    with pytest.raises(ModelError, match="cannot be loaded as a diffusers pipeline"):
        load_pipeline(folder)
    assert not mark.exists()
