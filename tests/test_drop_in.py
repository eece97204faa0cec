"""A guard can stand wherever its pipeline stood: what is read, set and called goes to the pipeline."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from guard_doubles import (
    FAST,
    library_protecting,
    seeded,
    use_tiny_descriptor,
)
from steerclear import Guard
from steerclear.errors import ConfigError, UnsupportedError
from steerclear.filters import CustomFilter
from steerclear.nudge.ladder import Ladder
from steerclear.testing import MockFilter, tiny_pipeline


@pytest.fixture
def pipe():
    return tiny_pipeline("sd1")


@pytest.fixture
def library(pipe, tmp_path):
    return library_protecting(pipe, tmp_path)


@pytest.fixture(autouse=True)
def tiny_descriptor(monkeypatch):
    use_tiny_descriptor(monkeypatch)


def test_reading_and_setting_what_is_not_the_guards_own_goes_to_the_pipeline(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    assert guard.scheduler is pipe.scheduler
    assert guard.components.keys() == pipe.components.keys()
    guard.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    assert type(pipe.scheduler) is EulerDiscreteScheduler
    want = pipe("a fox", generator=seeded(), **FAST).images[0]
    assert guard("a fox", generator=seeded(), **FAST).images[0].tobytes() == want.tobytes()
    guard.set_progress_bar_config(disable=True)
    guard.enable_attention_slicing()
    with pytest.raises(
        AttributeError, match="neither the guard nor its StableDiffusionPipeline has an attribute 'nonsense'"
    ):
        _ = guard.nonsense


def test_a_scheduler_that_does_not_fit_is_refused_when_it_is_set_and_the_old_one_stays(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    before = pipe.scheduler
    with pytest.raises(UnsupportedError):
        guard.scheduler = type("OddScheduler", (), {"config": before.config, "step": lambda self: None})()
    assert pipe.scheduler is before


def test_a_safety_checker_that_is_put_back_is_refused(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    with pytest.raises(ConfigError, match="blackens"):
        guard.safety_checker = object()
    assert pipe.safety_checker is None


def test_a_flow_matching_scheduler_of_another_family_changes_nothing_silently():
    pipe = tiny_pipeline("sd3")
    guard = Guard(pipe, [MockFilter(False)])
    guard.scheduler = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, shift=1.0)
    want = pipe("a fox", generator=seeded(), num_inference_steps=2).images[0]
    assert guard("a fox", generator=seeded(), num_inference_steps=2).images[0].tobytes() == want.tobytes()


def test_another_autoencoder_is_the_one_that_protected_pictures_are_encoded_with(pipe, library):
    guard = Guard.wrap(pipe, library)
    start = torch.zeros(0, 4, 8, 8)
    before = guard.protected.latents(["fox"], start)
    vae = tiny_pipeline("sd1").vae
    with torch.no_grad():
        for weight in vae.encoder.parameters():
            weight.mul_(1.5)
    guard.vae = vae
    assert not torch.allclose(guard.protected.latents(["fox"], start), before)


def test_to_moves_the_pipeline_and_gives_the_guard_back(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    assert guard.to(torch.bfloat16) is guard
    assert pipe.unet.dtype is torch.bfloat16
    assert guard("a fox", generator=seeded(), **FAST).images[0] is not None


def test_a_guard_can_be_copied_and_its_copy_is_a_guard(pipe):
    guard = Guard(pipe, [MockFilter(True)], ladder=Ladder(()))
    assert copy.copy(guard)("a fox", generator=seeded(), **FAST).images == [None]


def test_callers_queue_also_while_the_scheduler_is_changed(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    plain = pipe("a fox", generator=seeded(), **FAST).images[0].tobytes()

    def change(i):
        if i % 3 == 1:
            guard.scheduler = type(guard.scheduler).from_config(guard.scheduler.config)
        return guard("a fox", generator=seeded(), **FAST).images[0].tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(change, range(9))) == {plain}


def test_what_the_pipeline_has_is_listed(pipe):
    assert {"scheduler", "vae", "enable_attention_slicing", "check"} <= set(
        dir(Guard(pipe, [MockFilter(False)]))
    )


def test_the_output_is_read_as_a_pipelines_output_is(pipe):
    output = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(()))(
        ["a fox", "an owl"], generator=[seeded(0), seeded(1)], **FAST
    )
    assert output[0] is output.images
    assert output["images"] is output.images
    assert output.nsfw_content_detected == [True, False]
    assert output[1] == [True, False]
    images, flags = output.to_tuple()
    assert (images, flags) == (output.images, [True, False])
    with pytest.raises(KeyError):
        output["pictures"]
    with pytest.raises(IndexError):
        output[2]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("filters", None, "filters is None; pass a list of filters"),
        ("filters", "copy", "filters is 'copy'; pass a list"),
        ("filters", ["copy"], "filters holds the name 'copy'"),
        ("strict", [3], "3 is no filter"),
        ("pass_filters", [MockFilter(False)], "does not see passes; pass_filters takes"),
        ("unet", "a text", "unet cannot be 'a text'"),
        ("vae", None, "has no vae"),
    ],
)
def test_what_a_guard_cannot_work_with_is_refused_when_it_is_set(pipe, name, value, message):
    guard = Guard(pipe, [MockFilter(False)])
    before = getattr(guard, name)
    with pytest.raises(ConfigError, match=message):
        setattr(guard, name, value)
    assert getattr(guard, name) is before
    assert guard("a fox", generator=seeded(), **FAST).images[0] is not None


def test_filters_that_are_set_decide_from_the_next_call_on(pipe):
    guard = Guard(pipe, [MockFilter(False)], ladder=Ladder(()))
    guard.filters = [MockFilter(True)]
    assert guard("a fox", generator=seeded(), **FAST).images == [None]


@pytest.mark.parametrize("name", ["scheduler", "filters", "anything"])
def test_nothing_can_be_deleted_from_a_guard(pipe, name):
    guard = Guard(pipe, [MockFilter(False)])
    with pytest.raises(ConfigError, match=f"{name} cannot be deleted"):
        delattr(guard, name)
    assert guard.scheduler is pipe.scheduler


def test_a_method_that_changes_the_pipeline_waits_for_the_call_that_runs(pipe):
    changed = []
    pipe.enable_something = lambda: changed.append("changed")
    guard = Guard(pipe, [CustomFilter("slow", lambda images: slowly(), threshold=1.0)])
    begun, go_on = Event(), Event()

    def slowly():
        begun.set()
        assert go_on.wait(60)
        assert not changed
        return torch.zeros(1)

    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(guard, "a fox", generator=seeded(), **FAST)
        assert begun.wait(60)
        change = pool.submit(guard.enable_something)
        go_on.set()
        assert call.result().images[0] is not None
        change.result()
    assert changed == ["changed"]


def test_nothing_is_remembered_of_a_text_encoder_that_a_method_has_changed(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    runner = guard.runner
    guard.enable_attention_slicing()
    assert guard.runner is not runner


@pytest.mark.parametrize(
    "name",
    [
        "enable_vae_tiling",
        "disable_vae_tiling",
        "load_lora_weights",
        "unload_lora_weights",
        "fuse_lora",
        "unfuse_lora",
        "set_adapters",
        "delete_adapters",
        "register_to_config",
    ],
)
def test_a_method_of_diffusers_that_changes_the_pipeline_is_known_by_its_name(pipe, name, monkeypatch):
    monkeypatch.setattr(pipe, name, lambda: "changed", raising=False)
    guard = Guard(pipe, [MockFilter(False)])
    runner = guard.runner
    assert getattr(guard, name)() == "changed"
    assert guard.runner is not runner
