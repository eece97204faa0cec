"""The bench of real sizes, on architectures that are small enough for a test."""

import json
from dataclasses import replace

import pytest
import torch

from steerclear.testing import tiny_pipeline
from steerclear_lab.bench import architectures, realsize
from steerclear_lab.bench.realsize_page import page, targets


@pytest.fixture
def tiny(monkeypatch):
    """A small Stable Diffusion in the place of the published one, with the bench's own way of filling it."""

    def pipe():
        emptied = tiny_pipeline("sd1")
        emptied.unet.to("meta")
        emptied.vae.to("meta")
        return emptied

    filled = replace(
        architectures.ARCHITECTURES["sd14"], pipe=pipe, embeddings={"prompt_embeds": (1, 77, 16)}
    )
    monkeypatch.setitem(architectures.ARCHITECTURES, "sd14", filled)
    return filled


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_time_and_every_peak_are_measured_on_a_pipeline_that_runs(tiny, stored):
    pipe = architectures.build(tiny, "cpu", stored)

    def arguments_for(steps):
        return architectures.call_arguments(tiny, device="cpu", stored=stored, steps=steps, side=64)

    time = realsize.timings(pipe, arguments_for, pairs=2, device="cpu")
    assert len(time["plain_s"]) == len(time["watched_s"]) == 2
    assert time["own_s"] > 0
    assert time["decode_s"] > time["preview_s"] > 0
    for kind in realsize.MEMORY:
        memory = realsize.peak(pipe, arguments_for(2), kind=kind, device="cpu")
        assert memory["peak_bytes"] >= memory["loaded_bytes"] > 0
        assert memory["steps"] == (0 if kind == "plain" else 2)
    assert "step" not in vars(pipe.scheduler)


def test_weights_in_half_precision_compute_what_their_float32_copies_do(tiny):
    half, whole = (architectures.build(tiny, "cpu", stored) for stored in ("bfloat16", "float32"))
    weight = half.unet.conv_in.weight
    assert weight.dtype == torch.bfloat16
    for parameter, other in zip(whole.unet.parameters(), half.unet.parameters(), strict=True):
        parameter.data = other.data.float()
    latents = [
        pipe(**architectures.call_arguments(tiny, device="cpu", stored="float32", steps=2, side=64)).images
        for pipe in (half, whole)
    ]
    torch.testing.assert_close(*latents, rtol=1e-4, atol=1e-4)


def test_a_missed_target_is_named_with_its_figure():
    def row(name, hook, frozen, through):
        peaks = {
            which: {"peak_bytes": value * 2**30}
            for which, value in {"plain": 1, "frozen": frozen, "through": through}.items()
        }
        time = {
            "plain_s": [1.0],
            "watched_s": [1.0],
            "paired_ratio": 1.0,
            "own_s": hook - 1,
            "own_ratio": hook,
            "frozen_s": 0.1,
            "decode_s": 1.0,
            "preview_s": 0.1,
        }
        about = {
            "config": name,
            "side": 64,
            "stored": "float32",
            "device": "CPU",
            "threads": 1,
            "command": f"run {name}",
        }
        return {**about, "time": time, **peaks}

    rows = json.loads(
        json.dumps(
            [
                row("good", hook=1.001, frozen=1.01, through=1.5),
                row("bad", hook=1.02, frozen=1.2, through=1.7),
            ]
        )
    )
    lines = targets(rows).splitlines()
    assert lines[2:] == [
        "| hook per step | 1.01 × | good on CPU | bad on CPU (1.020) |",
        "| peak memory, frozen | 1.05 × | good on CPU | bad on CPU (1.200) |",
        "| peak memory, through the denoiser | 1.6 × | good on CPU | bad on CPU (1.700) |",
    ]
    assert "run good\nrun bad" in page(rows)
