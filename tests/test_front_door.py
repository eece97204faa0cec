"""How a guard is made, in one line: of a pipeline that is loaded or of a model's name; and its options."""

from __future__ import annotations

import pytest
import torch

import steerclear
from guard_doubles import (
    FAST,
    library_protecting,
    seeded,
    use_tiny_descriptor,
)
from steerclear import Guard
from steerclear.embedded import LIBRARY_FOLDER, MODEL_FOLDER
from steerclear.errors import ConfigError, InputError, LibraryError
from steerclear.filters import CustomFilter
from steerclear.guard_options import GuardOptions
from steerclear.nudge.ladder import Budget, Ladder
from steerclear.pipelines import load_pipeline
from steerclear.testing import FakeEncoder, MockFilter, tiny_pipeline
from steerclear.types import Outcome


@pytest.fixture
def pipe():
    return tiny_pipeline("sd1")


@pytest.fixture
def library(pipe, tmp_path):
    return library_protecting(pipe, tmp_path)


@pytest.fixture(autouse=True)
def tiny_descriptor(monkeypatch):
    use_tiny_descriptor(monkeypatch)


def test_a_pipeline_that_is_loaded_already_is_guarded_in_one_line(pipe, library):
    guard = Guard.wrap(pipe, library=library.uri)
    output = guard("a fox", generator=seeded(), **FAST)
    assert output.reports[0].matched == "fox"
    assert output.reports[0].outcome is not Outcome.CLEAR
    other = guard("an owl", generator=seeded(1), **FAST)
    assert other.images[0].tobytes() == pipe("an owl", generator=seeded(1), **FAST).images[0].tobytes()


def test_wrapping_gives_all_that_loading_gives():
    """The page's way and the real one are the same: encoder, captions, alternatives, strict filters, the
    early verdict.
    """
    from steerclear.encoders.embedded import CopyDescriptor

    CopyDescriptor.default = classmethod(
        lambda cls, device="cpu": CopyDescriptor.load(MODEL_FOLDER / "descriptor", device)
    )
    loaded = Guard.from_pretrained(MODEL_FOLDER, library=LIBRARY_FOLDER)
    wrapped = Guard.wrap(load_pipeline(MODEL_FOLDER), library=LIBRARY_FOLDER)
    for guard in (loaded, wrapped):
        assert [f.name for f in guard.filters] == ["nearest", "pixel", "tiled", "copy"]
        assert [f.name for f in guard.strict] == [f"strict {f.name}" for f in guard.filters]
        assert guard.encoder is not None
        assert guard.early is not None
        assert len(guard.alternatives) > 100
        assert guard.protected.captions(["mascot-acme"]) == ("the acme fox mascot, noto style",)
    settings = {"num_inference_steps": 4, "guidance_scale": 4.0}
    first, second = (
        g("the acme fox mascot, noto style", generator=seeded(), **settings) for g in (loaded, wrapped)
    )
    assert first.images[0].tobytes() == second.images[0].tobytes()
    assert first.reports[0].nfe == second.reports[0].nfe


def test_every_option_of_the_front_door_reaches_the_guard(pipe, library):
    def flag_nothing(images):
        return [0.0] * len(images)

    budget = Budget(overhead=2.0)
    guard = Guard.wrap(
        pipe,
        library,
        filters=[CustomFilter("mine", flag_nothing, 0.5), "steerclear.testing:MockFilter"],
        preferred=["an owl"],
        alternatives=["a bear"],
        ladder=["rewrite", "resample"],
        budget=budget,
        early=False,
        prefer="despecified",
        encoder=FakeEncoder(name="another"),
        policy="withhold",
        on_withheld="placeholder",
    )
    assert [f.name for f in guard.filters] == ["nearest", "pixel", "tiled", "copy", "mine", "mock"]
    assert guard.preferred == ("an owl",)
    assert guard.alternatives == ("a bear",)
    assert [rung.name for rung in guard.ladder.rungs] == ["rewrite", "resample"]
    assert guard.ladder.budget is budget
    assert guard.early is None
    assert guard.prefer == "despecified"
    assert guard.encoder.name == "another"
    assert guard.protected.withhold == {"fox"}
    assert guard.on_withheld == "placeholder"
    assert Guard.wrap(pipe, library, ladder=Ladder(()), budget=budget).ladder == Ladder((), budget)


def test_both_doors_take_the_same_options():
    import inspect

    wrap, from_pretrained = (
        {n for n, p in inspect.signature(f).parameters.items() if p.kind is p.KEYWORD_ONLY}
        for f in (Guard.wrap, Guard.from_pretrained)
    )
    assert wrap - {"model"} | {"library", "torch_dtype", "variant", "config", "device"} == from_pretrained
    assert GuardOptions.__annotations__.keys() == from_pretrained


def test_a_filter_that_is_added_is_added_to_the_librarys(pipe, library):
    guard = Guard.wrap(pipe, library, filters=[MockFilter([True, False])], ladder=["resample"])
    output = guard("an owl", generator=seeded(1), **FAST)
    assert output.reports[0].outcome is Outcome.STEERED
    assert {d.filter for d in output.reports[0].detections} == {"nearest", "pixel", "tiled", "copy", "mock"}


def test_the_loader_is_given_what_it_was_meant_for(tmp_path, pipe, library):
    pipe.save_pretrained(tmp_path / "model", variant="fp16")
    guard = Guard.from_pretrained(
        tmp_path / "model", library=library, variant="fp16", torch_dtype=torch.bfloat16, use_safetensors=True
    )
    assert guard.unet.dtype is torch.bfloat16
    assert guard.vae.dtype is torch.bfloat16
    only_variant = Guard.from_pretrained(tmp_path / "model", library=library)
    assert only_variant.unet.dtype is torch.float32
    with pytest.raises(steerclear.SteerclearError, match="cannot be loaded"):
        Guard.from_pretrained(tmp_path / "model", library=library, variant="bf16")  # there are no such files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": ["no-such-filter"]}, "unknown filter 'no-such-filter'"),
        ({"filters": ["steerclear.types:Outcome.CLEAR"]}, "is no filter|not callable|cannot"),
        ({"ladder": ["no-such-rung"]}, "unknown strategy 'no-such-rung'"),
        ({"prefer": "nobody"}, "prefer is 'nobody'"),
        ({"on_withheld": "explode"}, "on_withheld is 'explode'"),
        ({"policy": "burn"}, "policy is 'burn'"),
        ({"filters": "hash"}, "filters is 'hash'; pass a list"),
        ({"filters": ["json:dumps"]}, "the filter 'json:dumps' cannot be made: TypeError"),
        ({"filters": [":x"]}, "cannot be imported"),
        ({"ladder": "rewrite"}, "ladder is 'rewrite'; pass a list"),
        ({"ladder": [3]}, "3 is no strategy's name"),
        ({"ladder": ["json:dumps"]}, "the strategy 'json:dumps' cannot be made"),
        ({"budget": 4}, "budget is 4; it takes a Budget"),
        ({"preferred": "a fox"}, "preferred is 'a fox'; pass a list"),
        ({"preferred": [3]}, "preferred holds 3"),
        ({"alternatives": "a fox"}, "alternatives is 'a fox'; pass a list"),
        ({"early": "no"}, "early is 'no'"),
        ({"encoder": 3}, "encoder is 3"),
        ({"encoder": "os:path"}, "the encoder 'os:path' cannot be made"),
        ({"encoder": "no-such-encoder"}, "there is no encoder 'no-such-encoder'"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(pipe, library, options, message):
    with pytest.raises(steerclear.SteerclearError, match=message):
        Guard.wrap(pipe, library, **options)


def test_an_option_that_is_misspelt_is_not_passed_over(tmp_path):
    with pytest.raises(ConfigError, match="there is no option 'polcy'; did you mean 'policy'"):
        Guard.default(polcy="withhold")


def test_a_budget_of_a_call_that_is_none_is_named_before_anything_is_drawn(pipe):
    with pytest.raises(ConfigError, match="budget is 4"):
        Guard(pipe, [MockFilter(False)])("a fox", budget=4, **FAST)


@pytest.mark.parametrize(
    ("wrapped", "message"), [("sd", "'sd' is no diffusers pipeline"), (None, "None is no diffusers pipeline")]
)
def test_what_is_no_pipeline_is_named(library, wrapped, message):
    with pytest.raises(ConfigError, match=message):
        Guard.wrap(wrapped, library)


def test_a_guard_is_not_wrapped_twice(pipe, library):
    with pytest.raises(ConfigError, match="this is a guard already"):
        Guard.wrap(Guard(pipe, [MockFilter(False)]), library)
    with pytest.raises(ConfigError, match="library is None"):
        Guard.wrap(pipe, None)


def test_a_library_that_is_not_there_is_named(pipe, tmp_path):
    with pytest.raises(LibraryError, match="nowhere"):
        Guard.wrap(pipe, tmp_path / "nowhere")


@pytest.mark.parametrize("images", ["a.png", ["a.png"], [None], None])
def test_what_is_no_list_of_pictures_is_not_checked(pipe, images):
    with pytest.raises(InputError, match="PIL"):
        Guard(pipe, [MockFilter(False)]).check(images)


@pytest.mark.parametrize(
    "wrong", [{"cancelled": True}, {"seconds": "a"}, {"overhead": None}, {"overhead": "8"}]
)
def test_a_budget_that_is_none_is_refused_when_it_is_made(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Budget(**wrong)
