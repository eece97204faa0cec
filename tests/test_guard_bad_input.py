"""Bad input: a clear error before anything is denoised, or it works; and whatever is no number is never
handed out.
"""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from steerclear.errors import ConfigError, InputError, SteerclearError, UnsupportedError
from steerclear.generators.accepted import check_pipeline, denoiser_of
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.pixels import to_tensor
from steerclear.prompts import unread
from steerclear.protected import Protected
from steerclear.testing import MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Detection, Outcome

FAST = {"num_inference_steps": 2, "guidance_scale": 4.0}
SHORT = Ladder(strategies(("rewrite", "final-latent+condition", "condition", "trajectory", "resample")))


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


@pytest.fixture
def untouched(pipe):
    """The pipeline, and a check that its denoiser was never asked."""
    asked = []
    handle = pipe.unet.register_forward_pre_hook(lambda *a, **k: asked.append(1), with_kwargs=True)
    yield pipe
    handle.remove()
    assert not asked


@pytest.mark.parametrize(
    ("prompt", "options", "named"),
    [
        (3, {}, "neither a string"),
        (["a fox", 3], {}, "prompt 3"),
        (["a fox", ""], {}, "empty"),
        ({}, {}, "neither a string"),
        ("a fox", {"guidence_scale": 3.0}, "takes no guidence_scale"),
        ("a fox", {"image": None, "masks": 1}, "image, masks"),
        ("a fox", {"latents": torch.zeros(3, 4, 8, 8)}, "latents"),
        ("a fox", {"num_inference_steps": 2.5}, "is 2.5"),
        ("a fox", {"num_inference_steps": "many"}, "'many'"),
        ("a fox", {"num_images_per_prompt": 1.5}, "is 1.5"),
        ("a fox", {"generator": 7}, "generator is int"),
        ("a fox", {"generator": [7]}, "generator is list"),
        (["a fox"] * 3, {"generator": [torch.Generator()]}, "1 generators were given for 3 images"),
        ("a fox", {"height": 65, "width": 64}, "divisible by 8"),
        ("a fox", {"height": 64, "width": 4}, "shortest side"),
        ("a fox", {"height": "64", "width": 64}, "height is '64'"),
        ("a fox", {"callback_on_step_end_tensor_inputs": ["nothing"]}, "nothing"),
        ("a fox", {"negative_prompt": ["a", "b"]}, "refuses this call"),
        ("a fox", {"negative_prompt": 5}, "refuses this call"),
    ],
)
def test_what_cannot_be_asked_is_named_before_anything_is_denoised(untouched, prompt, options, named):
    with pytest.raises(InputError, match=named):
        Guard(untouched, [MockFilter(False)])(prompt, **{**FAST, **options})
    assert "step" not in vars(untouched.scheduler)


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0, 7.5])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "flux"])
def test_one_step_and_no_guidance_work(family, steps, guidance_scale):
    kwargs = {**tiny_call(family, "a small fox", steps), "guidance_scale": guidance_scale}
    pipe = tiny_pipeline(family)
    plain = pipe(generator=seeded(), **kwargs).images[0]
    assert (
        Guard(pipe, [MockFilter(False)])(generator=seeded(), **kwargs).images[0].tobytes() == plain.tobytes()
    )
    ladder = Ladder(strategies(("rewrite", "condition", "trajectory+condition", "resample", "resample")))
    out = Guard(pipe, [MockFilter([True, False])], preferred=["a bear"], ladder=ladder)(
        generator=seeded(), **kwargs
    )
    report = out.reports[0]
    assert report.outcome == Outcome.STEERED, report.attempts


def test_a_strength_that_leaves_no_step_is_named():
    pipe = tiny_pipeline("sd1-image")
    with pytest.raises(InputError, match=r"2 steps at a strength of 0\.3"):
        Guard(pipe, [MockFilter(False)])(**{**tiny_call("sd1-image", steps=2), "strength": 0.3})


def test_the_report_says_what_no_text_encoder_reads(pipe):
    prompt = "fox " * 30 + "and an owl"  # the tiny tokenizer spells words in letters, and reads 75 of them
    out = Guard(pipe, [MockFilter(False)])([prompt, "a fox"], **FAST)
    long, short = out.reports
    assert long.unread.endswith("an owl")
    assert len(long.unread) < len(prompt)
    assert short.unread is None
    assert long.to_dict()["unread"] == long.unread


def test_what_one_of_several_encoders_reads_counts_as_read():
    pipe = tiny_pipeline("flux")  # CLIP reads 77 tokens, T5 as many as it is told
    prompt = "fox " * 30
    assert unread(pipe, prompt, {"max_sequence_length": 512}) is None
    assert unread(pipe, prompt, {"max_sequence_length": 64}) is not None


@pytest.mark.parametrize("side", [16, 64, 200])
def test_a_library_of_pictures_of_another_size_is_brought_to_the_models(pipe, side):
    picture = pipe("a small fox", generator=seeded(), **FAST).images[0].resize((side, side))
    protected = Protected(pipe, {"item": to_tensor([picture])[0]})
    copy = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="item")
    guard = Guard(
        pipe, [MockFilter([copy, False])], protected=protected, ladder=Ladder(strategies(("shield",)))
    )
    assert guard("a small fox", generator=seeded(), **FAST).reports[0].outcome == Outcome.STEERED


@pytest.mark.parametrize("size", [{}, {"height": 64, "width": 128}])
@pytest.mark.parametrize("family", ["flux", "qwen"])
def test_protected_pictures_are_packed_as_the_pipelines_latents_are(family, size):
    pipe = tiny_pipeline(family)
    kwargs = {**tiny_call(family, "a small fox", 2), **size}
    picture = pipe(generator=seeded(), **kwargs).images[0]
    protected = Protected(pipe, {"item": to_tensor([picture])[0]})
    copy = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="item")
    ladder = Ladder(strategies(("trajectory+condition",)))
    guard = Guard(pipe, [MockFilter([copy, False])], protected=protected, preferred=["an owl"], ladder=ladder)
    report = guard(generator=seeded(), **kwargs).reports[0]
    assert report.outcome == Outcome.STEERED, (report.reason, report.attempts)


@pytest.mark.parametrize("component", ["vae", "unet"])
def test_a_pipeline_with_a_missing_component_is_refused_by_name(component):
    pipe = tiny_pipeline("sd1")
    setattr(pipe, component, None)
    with pytest.raises(ConfigError, match=f"no {component}"):
        Guard(pipe, [MockFilter(False)])


@pytest.mark.parametrize("component", ["text_encoder", "tokenizer"])
def test_a_prompt_without_what_reads_it_is_refused_by_name_and_embeddings_are_not(component):
    pipe = tiny_pipeline("sd1")
    embeds, negative = pipe.encode_prompt("a fox", "cpu", 1, True)
    setattr(pipe, component, None)
    guard = Guard(pipe, [MockFilter(False)])
    with pytest.raises(InputError, match=f"has no {component}, so it cannot read 'a fox'"):
        guard("a fox", **FAST)
    out = guard(prompt_embeds=embeds, negative_prompt_embeds=negative, **FAST)
    assert out.reports[0].outcome == Outcome.CLEAR


def test_a_component_without_weights_is_refused_by_name():
    pipe = tiny_pipeline("sd1")
    pipe.vae.to("meta")
    with pytest.raises(ConfigError, match="the vae of this StableDiffusionPipeline has no weights"):
        Guard(pipe, [MockFilter(False)])


@pytest.mark.parametrize(
    ("family", "options", "named"),
    [
        *(
            (family, {"height": 8, "width": 64}, "16 pixels")
            for family in ("flux", "flux2-dev", "chroma", "qwen", "pixart", "hunyuandit")
        ),
        ("wuerstchen", {"height": 128, "width": 40}, "width of 40 pixels; the next that it can is 128"),
        ("kandinsky22", {"negative_prompt": "a", "generator": [torch.Generator()]}, "one generator"),
    ],
)
def test_what_this_kind_of_pipeline_cannot_make_is_named_before_anything_is_denoised(family, options, named):
    pipe = tiny_pipeline(family)
    asked = []
    for module in filter(None, (denoiser_of(pipe), getattr(pipe, "prior_prior", None))):
        module.register_forward_pre_hook(lambda *a, **k: asked.append(1), with_kwargs=True)
    with pytest.raises(InputError, match=named):
        Guard(pipe, [MockFilter(False)])(**{**tiny_call(family, "a fox", 2), **options})
    assert not asked


@pytest.mark.parametrize(
    ("family", "components"),
    [
        ("kandinsky22", ("movq", "unet", "prior_prior", "prior_text_encoder")),
        ("cascade", ("vqgan", "decoder", "prior_prior")),
        ("wuerstchen", ("vqgan",)),
        ("kandinsky3", ("movq", "unet")),
        ("hunyuandit", ("vae", "transformer")),
        ("flux2-dev", ("vae", "transformer")),
        ("dit", ("vae", "transformer")),
    ],
)
def test_a_missing_component_of_any_kind_of_pipeline_is_named(family, components):
    for component in components:
        pipe = tiny_pipeline(family)
        setattr(pipe, component, None)
        with pytest.raises(ConfigError, match=f"no {component}"):
            Guard(pipe, [MockFilter(False)])


@pytest.mark.parametrize("family", ["kandinsky22", "wuerstchen", "cascade"])
def test_a_pipeline_of_two_stages_must_hold_its_scheduler_once(family):
    pipe = tiny_pipeline(family)
    pipe.scheduler = type(pipe.scheduler)()
    with pytest.raises(ConfigError, match=r"pipe\.decoder_pipe\.scheduler"):
        Guard(pipe, [MockFilter(False)])
    pipe = tiny_pipeline(family)
    pipe.prior_scheduler = pipe.scheduler
    with pytest.raises(ConfigError, match="share one scheduler"):
        Guard(pipe, [MockFilter(False)])


def test_a_decoder_without_its_prior_is_refused_where_it_takes_no_prompt():
    with pytest.raises(UnsupportedError, match="KandinskyV22Pipeline takes image embeddings"):
        Guard(tiny_pipeline("kandinsky22").decoder_pipe, [MockFilter(False)])


@pytest.mark.parametrize("family", ["wuerstchen", "cascade"])
def test_a_decoder_that_takes_a_prompt_is_guarded_with_the_callers_embeddings(family):
    pipe = tiny_pipeline(family).decoder_pipe
    pipe.set_progress_bar_config(disable=True)
    call = {"image_embeddings": torch.randn(1, 4, 3, 3, generator=seeded(2)), "num_inference_steps": 3}
    plain = pipe(prompt="a small fox", generator=seeded(), **call).images[0]
    out = Guard(pipe, [MockFilter(False)])("a small fox", generator=seeded(), **call)
    assert out.images[0].tobytes() == plain.tobytes()
    ladder = Ladder(strategies(("trajectory",)))
    out = Guard(pipe, [MockFilter([True, False])], ladder=ladder)("a small fox", generator=seeded(), **call)
    assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts
    assert out.images[0].tobytes() != plain.tobytes()


@pytest.mark.parametrize("family", ["sd1", "flux", "kandinsky3", "cascade"])
def test_weights_that_accelerate_brings_in_are_used_as_the_pipeline_uses_them(family):
    """Every module waits on the meta device and comes to the processor for its own evaluation, as under
    offloading to one.
    """
    accelerate = pytest.importorskip("accelerate")
    kwargs = tiny_call(family, "a small fox", 2)
    plain = tiny_pipeline(family)(generator=seeded(), **kwargs).images[0]
    pipe = tiny_pipeline(family)
    for module in {id(m): m for m in pipe.components.values() if isinstance(m, torch.nn.Module)}.values():
        accelerate.cpu_offload(module, execution_device=torch.device("cpu"), offload_buffers=True)
    denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None) or pipe.decoder
    assert all(weight.is_meta for weight in denoiser.parameters())
    out = Guard(pipe, [MockFilter(False)])(generator=seeded(), **kwargs)
    assert out.images[0].tobytes() == plain.tobytes()
    picture = to_tensor([plain])[0]
    copy = Detection("mock", flagged=True, score=1.0, threshold=0.5, matched="item")
    for strategy in ("trajectory", "trajectory-through", "final-latent+condition"):
        guard = Guard(
            pipe,
            [MockFilter([copy, False])],
            protected=Protected(pipe, {"item": picture}),
            preferred=["an owl"],
            ladder=Ladder(
                strategies((strategy if family != "cascade" else strategy.removesuffix("+condition"),))
            ),
        )
        report = guard(generator=seeded(), **kwargs).reports[0]
        assert report.outcome == Outcome.STEERED, (strategy, report.reason, report.attempts)
    assert all(weight.is_meta for weight in denoiser.parameters())


def test_an_offloaded_component_is_brought_back_as_the_pipeline_does():
    pytest.importorskip("accelerate")  # without which diffusers does not offload
    pipe = tiny_pipeline("sd1")
    plain = pipe("a small fox", generator=seeded(), **FAST).images[0]
    pipe.unet.enable_group_offload(
        onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), offload_type="leaf_level"
    )
    out = Guard(pipe, [MockFilter(False)])("a small fox", generator=seeded(), **FAST)
    assert out.images[0].tobytes() == plain.tobytes()
    out = Guard(pipe, [MockFilter([True, False])], ladder=SHORT, preferred=["a bear"])(
        "a small fox", generator=seeded(), **FAST
    )
    assert out.reports[0].outcome == Outcome.STEERED


def test_a_scheduler_that_is_not_known_to_fit_is_refused_when_the_guard_is_made():
    from diffusers import KDPM2DiscreteScheduler

    pipe = tiny_pipeline("sd1", KDPM2DiscreteScheduler())
    with pytest.raises(UnsupportedError, match="KDPM2DiscreteScheduler"):
        Guard(pipe, [MockFilter(False)])


@pytest.mark.parametrize("name", ["LTXPipeline", "WanPipeline", "CogVideoXPipeline", "AnimateDiffPipeline"])
def test_video_pipelines_are_refused_when_the_guard_is_made(name):
    import diffusers

    with pytest.raises(UnsupportedError, match=f"{name} makes videos"):
        Guard(object.__new__(getattr(diffusers, name)), [MockFilter(False)])


@pytest.mark.parametrize("family", ["sd1", "flux", "qwen", "sana", "dit", "sdxl-inpaint"])
def test_image_pipelines_are_accepted(family):
    check_pipeline(tiny_pipeline(family))


@pytest.mark.parametrize("where", ["unet", "vae"])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_what_is_not_a_number_anywhere_is_withheld(where):
    pipe = tiny_pipeline("sd1")
    broken = pipe.unet.conv_out if where == "unet" else pipe.vae.decoder.conv_out
    broken.weight.data.fill_(float("nan"))
    out = Guard(pipe, [MockFilter(False)], ladder=SHORT, preferred=["a bear"])(
        "a small fox", generator=seeded(), **FAST
    )
    assert out.images == [None]
    report = out.reports[0]
    assert report.outcome == Outcome.WITHHELD
    assert any("not finite" in (d.error or "") for d in report.detections)
    assert not any(a.passed for a in report.attempts)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
def test_one_image_that_is_no_number_costs_no_other():
    pipe = tiny_pipeline("sd1")
    plain = pipe(["a small fox"] * 2, generator=[seeded(1), seeded(2)], **FAST).images
    decode = pipe.vae.decoder.forward

    def spoilt(sample, *args, **kwargs):
        out = decode(sample, *args, **kwargs).clone()
        out[-1, :, 0, 0] = float("inf")
        return out

    pipe.vae.decoder.forward = spoilt
    guard = Guard(pipe, [MockFilter(False)], ladder=Ladder(()))
    out = guard(["a small fox"] * 2, generator=[seeded(1), seeded(2)], **FAST)
    assert [r.outcome for r in out.reports] == [Outcome.CLEAR, Outcome.WITHHELD]
    assert out.images[0].tobytes() == plain[0].tobytes()
    assert out.images[1] is None
    findings = [[(d.filter, d.flagged) for d in r.detections] for r in out.reports]
    assert findings == [[("mock", False)], [("mock", False), ("finite", True)]]


def test_a_picture_to_begin_from_that_is_none_is_named():
    guard = Guard(tiny_pipeline("sd1-image"), [MockFilter(False)])
    for image in (None, "a path", 3):
        with pytest.raises((SteerclearError, ValueError)):
            guard("a fox", image=image, num_inference_steps=2)
    out = guard("a fox", image=Image.new("RGB", (64, 64)), num_inference_steps=2)
    assert out.reports[0].outcome == Outcome.CLEAR
