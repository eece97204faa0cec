"""The front door: one line around a pipeline that you have, and a guard that can stand wherever its pipeline
stood.
"""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from threading import Event

import pytest
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from PIL import Image

import steerclear
from steerclear import Guard, Library
from steerclear.embedded import LIBRARY_FOLDER, MODEL_FOLDER
from steerclear.errors import ConfigError, InputError, LibraryError, UnsupportedError, WithheldError
from steerclear.filters import CustomFilter
from steerclear.guard_options import GuardOptions
from steerclear.nudge.ladder import Budget, Ladder
from steerclear.pipelines import load_pipeline
from steerclear.testing import FakeEncoder, MockFilter, tiny_pipeline
from steerclear.types import Outcome

FAST = {"num_inference_steps": 3, "guidance_scale": 4.0}
ENCODER = FakeEncoder(name="steerclear.testing:FakeEncoder")
# no picture of a random model comes near: only what a test says is flagged
THRESHOLDS = {"nearest": 0.999999, "pixel": 0.9999, "tiled": 0.9999, "copy": 1000.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def named_encoder() -> FakeEncoder:
    """What a user's own module would hold."""
    return FakeEncoder(name="test_front_door:named_encoder")


@pytest.fixture
def pipe():
    return tiny_pipeline("sd1")


@pytest.fixture
def library(pipe, tmp_path):
    """A calibrated library that protects what the tiny pipeline makes of "a fox" with seed 0."""
    from steerclear.library import add

    pipe("a fox", generator=seeded(), **FAST).images[0].save(tmp_path / "fox.png")
    library = Library.create(tmp_path / "library", [FakeEncoder(name="descriptor")])
    add(library, [tmp_path / "fox.png"], [FakeEncoder(name="descriptor")])
    library.write_note("calibration", {"thresholds": THRESHOLDS})
    return library


@pytest.fixture(autouse=True)
def fake_descriptor(monkeypatch):
    """The tests' libraries are built with a tiny encoder under the embedded descriptor's name."""
    from steerclear.encoders.embedded import CopyDescriptor

    fake = classmethod(lambda cls, device="cpu": FakeEncoder(name="descriptor"))
    monkeypatch.setattr(CopyDescriptor, "default", fake)


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


# ── a drop-in for its pipeline ──────────────────────────────────────────────────────────────────────────────


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


# ── what stands for an image that is withheld ───────────────────────────────────────────────────────────────


def test_a_placeholder_has_the_size_of_the_picture_and_shows_nothing_of_it(pipe):
    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(()), on_withheld="placeholder")
    output = guard(["a fox", "an owl"], generator=[seeded(0), seeded(1)], height=64, width=96, **FAST)
    placeholder, picture = output.images
    assert placeholder.size == picture.size == (96, 64)
    assert len(placeholder.getcolors()) == 1
    assert [r.outcome for r in output.reports] == ["withheld", "clear"]
    assert output.nsfw_content_detected == [True, False]


def test_a_placeholder_has_that_size_as_well_where_the_first_pass_was_left_early(pipe, library):
    class Blocked:
        name, threshold = "prompt", 0.5

        def check_prompts(self, prompts):
            return [steerclear.Detection("prompt", True, 1.0, 0.5) for _ in prompts]

    guard = Guard.wrap(pipe, library, filters=[Blocked()], ladder=Ladder(()), on_withheld="placeholder")
    output = guard("a fox", generator=seeded(), **FAST)
    assert output.reports[0].nfe < output.reports[0].nfe_plain
    assert output.images[0].size == pipe("a fox", generator=seeded(), **FAST).images[0].size


def test_raising_for_a_withheld_image_loses_none_of_the_others(pipe):
    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(()), on_withheld="raise")
    with pytest.raises(WithheldError, match="1 of 2 images are withheld") as error:
        guard(["a fox", "an owl"], generator=[seeded(0), seeded(1)], **FAST)
    assert error.value.output.images[0] is None
    assert isinstance(error.value.output.images[1], Image.Image)
    Guard(pipe, [MockFilter(False)], on_withheld="raise")("a fox", generator=seeded(), **FAST)


# ── bad options are named ───────────────────────────────────────────────────────────────────────────────────


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


def test_what_stands_for_a_withheld_image_is_checked_when_it_is_set(pipe):
    guard = Guard(pipe, [MockFilter(False)])
    with pytest.raises(ConfigError, match="on_withheld is 'rase'"):
        guard.on_withheld = "rase"


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


# ── old paths ───────────────────────────────────────────────────────────────────────────────────────────────

OLD_PATHS = {
    "steerclear.emoji": (
        "MODEL_FOLDER",
        "PROTECTED_FOLDER",
        "read_prompts",
        "ASSETS",
        "BYSTANDER_FOLDER",
        "load_sibling",
    ),
    "steerclear.loading": ("load_pipeline", "latent_like", "LIBRARY_FOLDER", "is_embedded"),
    "steerclear.filters.base": ("to_tensor", "to_image"),
    "steerclear.filters.pixel": ("Everything", "Nominated"),
    "steerclear.encoders.base": ("fit",),
    "steerclear.nudge.objective": ("cosines",),
    "steerclear.generators": ("PipelineGenerator",),
    "steerclear.output": ("SheetRow", "compare_sheet", "model_fingerprint"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("module", "name"), [(m, n) for m, names in OLD_PATHS.items() for n in names])
def test_an_old_import_path_still_works(module, name):
    assert getattr(import_module(module), name) is not None


def test_an_old_import_path_says_where_the_name_is_now():
    with pytest.warns(DeprecationWarning, match=r"has moved to steerclear\.embedded\.MODEL_FOLDER"):
        assert import_module("steerclear.emoji").MODEL_FOLDER == MODEL_FOLDER
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = import_module("steerclear.emoji").nonsense


def test_the_filters_that_the_old_page_asked_for_still_come(library):
    from steerclear.loading import library_filters, open_encoders

    with pytest.warns(DeprecationWarning, match="Guard.wrap"):
        filters = library_filters(library, open_encoders(library), "strict")
    assert [f.name for f in filters] == ["strict nearest", "strict pixel", "strict tiled", "strict copy"]


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
