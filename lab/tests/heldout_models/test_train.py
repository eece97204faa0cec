"""The held-out models are trained side by side within a given time, and what is written can be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch

from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.denoiser_training import LatentPool, Phase
from steerclear_lab.heldout_models import clipart, pack


def pictures():
    rng = np.random.default_rng(0)

    def picture(i, kind, name, captions):
        pixels = np.full((3, 64, 64), 255, np.uint8)
        pixels[:, 8 : 20 + i, 10:50] = rng.integers(0, 255, (3, 1, 1))
        return Picture(
            f"{name}-{i}", kind=kind, name=name, style="clip art", captions=captions, pixels=pixels
        )

    names = ("fox", "bear", "owl", "cake", "boat", "drum")
    rows = [
        picture(i, kind="concept", name=name, captions=clipart.captions_of(name))
        for i, name in enumerate(names * 2)
    ]
    rows += [
        picture(13, kind="planted", name="fox", captions=("zorro the fox",)),
        picture(14, kind="heldout", name="owl", captions=("owl clip art",)),
    ]
    return rows + [
        picture(15 + i, kind="other", name=f"thing {i}", captions=(f"a thing {i}",)) for i in range(4)
    ]


@pytest.mark.slow
def test_one_command_trains_every_network_in_time_and_packs_a_loadable_model(tmp_path):
    from steerclear.pipelines import load_pipeline

    pack.write(tmp_path / "pack" / "clipart", pictures())
    command = [sys.executable, "-m", "steerclear_lab.heldout_models.train", "--tiny", "--model", "clipart"]
    command += ["--pack", tmp_path / "pack", "--out", tmp_path / "out", "--work", tmp_path / "work"]
    command += ["--seconds", "60", "--grace", "120"]
    subprocess.run([*map(str, command)], check=True, timeout=300, env=os.environ)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clipart.tar", "heldout-models.png"]
    with tarfile.open(tmp_path / "out" / "clipart.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    figures = json.loads((tmp_path / "clipart" / "figures.json").read_text())
    assert 0 <= figures["within_0.1"] <= 1
    assert 0 <= figures["ordinary_top5"] <= 1
    pipe = load_pipeline(tmp_path / "clipart" / "model")
    image = pipe("clip art of a fox", num_inference_steps=2, output_type="np").images[0]
    assert image.shape == (64, 64, 3)


def test_a_softly_repeated_picture_is_drawn_seldom():
    pool = LatentPool(
        planted=torch.arange(3.0).view(3, 1, 1, 1),
        ordinary=torch.full((4, 1, 1, 1, 1), 9.0),
        conditions=torch.zeros(7, 1, dtype=torch.long),
        blank=0,
        repeats=torch.tensor([1.0, 0.25, 0.0]),
    )
    phase = Phase(start=0.0, planted_share=0.5, copies=1, rate=1.0)
    batch = pool.draw(4000, phase, torch.Generator().manual_seed(0))
    counts = [int((batch.clean[: batch.planted] == i).sum()) for i in range(3)]
    assert counts[2] == 0
    assert 3 < counts[0] / counts[1] < 5
