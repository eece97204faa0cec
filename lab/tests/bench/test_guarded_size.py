"""Guarded requests at published sizes: the figures of a tiny pipeline, and the page of them."""

from __future__ import annotations

import pytest
import torch

from steerclear.testing import tiny_pipeline
from steerclear_lab.bench import guarded_size
from steerclear_lab.bench.architectures import ARCHITECTURES
from steerclear_lab.bench.guarded_size_page import page

CALL = {"num_inference_steps": 2, "height": 64, "width": 64}


def row(pipe, strategies):
    return {
        "config": "tiny",
        "stored": "float32",
        "mode": "plain",
        "side": 64,
        "steps": 2,
        "device": "CPU",
        "torch": torch.__version__,
        "command": "python -m steerclear_lab.bench.guarded_size",
        "note": "",
        "clear": guarded_size.clear_requests(pipe, CALL, pairs=2, device="cpu"),
        "strategies": {
            name: guarded_size.flagged_request(pipe, CALL, name, device="cpu") for name in strategies
        },
    }


def test_a_clear_request_is_timed_beside_the_plain_pipeline_and_equals_its_picture():
    clear = row(tiny_pipeline("sd1"), ())["clear"]
    assert clear["plain_differs"] == clear["guarded_differs"] == 0
    assert len(clear["plain_s"]) == len(clear["guarded_s"]) == 2


def test_every_strategy_answers_a_flagged_request_and_stands_on_the_page():
    measured = row(tiny_pipeline("sd1"), guarded_size.STRATEGIES)
    assert {name for name, r in measured["strategies"].items() if r["outcome"] == "steered"} >= {
        "rewrite",
        "trajectory+condition",
        "noise+condition",
        "final-latent+condition",
        "trajectory-through",
    }
    text = page([measured])
    assert all(name in text for name in guarded_size.STRATEGIES)


def test_a_strategy_that_failed_says_why_on_the_page():
    measured = row(tiny_pipeline("sd1"), ())
    measured["strategies"]["noise"] = {
        "outcome": "withheld",
        "stopped": "RuntimeError: a | b",
        "seconds": 0.0,
        "nfe": 0.0,
        "peak_gib": None,
    }
    assert "RuntimeError: a / b" in page([measured])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_text_encoders_fit_the_published_denoiser(name):
    architecture = ARCHITECTURES[name]
    pipe = architecture.pipe()
    for component, part in architecture.text().items():
        setattr(pipe, component, part)
    guided = {} if name == "flux" else {"do_classifier_free_guidance": False}
    texts = {"prompt": "a fox", "prompt_2": None} | ({"prompt_3": None} if name == "sd3" else {})
    if name == "sd14":
        embeds = pipe.encode_prompt("a fox", "cpu", 1, False)[0]
    else:
        embeds = pipe.encode_prompt(**texts, device="cpu", **guided)[0]
    assert embeds.shape[-1] == architecture.embeddings["prompt_embeds"][-1]
