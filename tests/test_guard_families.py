"""The promises on every family: clear pictures untouched, flagged ones steered, the pipeline unchanged."""

from __future__ import annotations

import pytest
import torch

from steerclear.errors import InputError, UnsupportedError
from steerclear.generators import PipelineRunner
from steerclear.guard import Guard
from steerclear.nudge import Ladder, SteerTask
from steerclear.nudge.ladder import strategies
from steerclear.nudge.shield import Shield, distances
from steerclear.testing import FAMILIES, MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Outcome

PROMPTED = [family for family in FAMILIES if family != "dit"]
TWO_STAGES = {"kandinsky22", "wuerstchen", "cascade"}  # a prior makes an image embedding of the text
# the others draw from the generator after their start: inpainting to encode what it keeps, and the schedulers
# of a consistency model and of Würstchen to add noise at every step
EXACT = [
    family for family in PROMPTED if not family.endswith("-inpaint") and family not in {"lcm", "wuerstchen"}
]
ADDS_NOISE = {"hunyuandit", "kandinsky3", "kandinsky22", "cascade"}  # as published, with DDPM
LISTS = {"zimage"}  # embeddings of any length in lists: prompts can be rewritten, embeddings not nudged


# one of each way of predicting and of encoding a prompt; the slow tier walks all families
SAMPLE = {
    "sd1",
    "sdxl",
    "sd3",
    "flux",
    "pixart",
    "kandinsky22",
    "dit",
    "sd1-image",
    "sdxl-inpaint",
    "lcm",
    "zimage",
}


def walked(families):
    return [pytest.param(f, marks=() if f in SAMPLE else pytest.mark.slow) for f in families]


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def ask(family, prompt="a small fox", **more):
    return {**tiny_call(family, prompt, steps=3), **more}


@pytest.mark.parametrize("family", walked(EXACT))
def test_an_encoded_prompt_and_its_noise_make_the_plain_picture_bit_for_bit(family):
    pipe = tiny_pipeline(family, "DDIMScheduler" if family in ADDS_NOISE else None)
    kwargs = ask(family)
    runner = PipelineRunner(pipe)
    first = runner.run(generator=seeded(), **kwargs)
    drawn = seeded(1 if family in TWO_STAGES else 2)  # a prior begins from noise of its own
    condition = runner.encode(kwargs["prompt"], kwargs)
    again = runner.regenerate(condition, first.start, kwargs=kwargs, generator=drawn)
    assert again.images[0].tobytes() == first.images[0].tobytes()
    assert again.nfe == first.nfe


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clear_picture_of_any_family_is_bit_identical_to_the_plain_pipelines(family):
    pipe = tiny_pipeline(family)
    want = pipe(generator=seeded(), **ask(family)).images[0]
    out = Guard(pipe, [MockFilter(False)])(generator=seeded(), **ask(family))
    assert out.images[0].tobytes() == want.tobytes()
    assert out.reports[0].overhead == 1.0


@pytest.mark.parametrize("family", walked(PROMPTED))
@pytest.mark.parametrize("strategy", ["rewrite", "condition", "final-latent+condition", "resample"])
def test_a_flagged_picture_of_any_family_is_steered_and_the_pipeline_left_as_it_was(family, strategy):
    pipe = tiny_pipeline(family)
    plain = pipe(generator=seeded(), **ask(family)).images[0]
    ladder = Ladder(strategies((strategy,)))
    guard = Guard(pipe, [MockFilter([True, False])], preferred=["an owl at night"], ladder=ladder)
    out = guard(generator=seeded(), **ask(family))
    report = out.reports[0]
    if family in {*LISTS, *TWO_STAGES} and strategy in {"condition", "final-latent+condition"}:
        assert report.outcome == Outcome.WITHHELD
        assert "cannot be nudged" in report.attempts[0].stopped
    elif family.endswith(("-image", "-inpaint")) and strategy.startswith("final-latent"):
        assert report.outcome == Outcome.WITHHELD
        assert "cannot be resumed" in report.attempts[0].stopped
    else:
        assert report.outcome == Outcome.STEERED, report.attempts
        assert out.images[0].tobytes() != plain.tobytes()
    assert "step" not in vars(pipe.scheduler)
    assert pipe(generator=seeded(), **ask(family)).images[0].tobytes() == plain.tobytes()


@pytest.mark.parametrize("family", walked(PROMPTED))
def test_without_a_wish_the_default_ladder_steers_any_family(family):
    pipe = tiny_pipeline(family)
    out = Guard(pipe, [MockFilter([True, False])])(generator=seeded(), **ask(family))
    assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts


@pytest.mark.parametrize(
    "options", [{"guidance_scale": 1.0}, {"guidance_scale": 5.0, "negative_prompt": "a bear"}]
)
@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "pixart", "lumina2"])
def test_guidance_and_negative_prompts_are_encoded_as_the_pipeline_does(family, options):
    pipe = tiny_pipeline(family)
    kwargs = ask(family, **options)
    runner = PipelineRunner(pipe)
    first = runner.run(generator=seeded(), **kwargs)
    condition = runner.encode(kwargs["prompt"], kwargs)
    again = runner.regenerate(condition, first.start, kwargs=kwargs, generator=seeded(2))
    assert again.images[0].tobytes() == first.images[0].tobytes()


def test_a_family_whose_encoding_is_not_known_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="DiTPipeline"):
        PipelineRunner(tiny_pipeline("dit")).encode("a fox", {})


@pytest.mark.parametrize("family", FAMILIES)
def test_one_flagged_image_of_four_leaves_the_others_bit_identical(family):
    pipe = tiny_pipeline(family)
    kwargs = ask(family)
    if family == "dit":
        kwargs["class_labels"] = [1, 2, 3, 4]
    elif family == "wuerstchen":  # it takes one prompt at a time
        kwargs["num_images_per_prompt"] = 4
    else:
        kwargs["prompt"] = ["a fox", "a small fox", "an owl", "a boat"]
    if isinstance(kwargs.get("negative_prompt"), str):
        kwargs["negative_prompt"] = [kwargs["negative_prompt"]] * 4
    if "image" in kwargs:
        kwargs["image"] = [kwargs["image"].rotate(angle) for angle in (0, 90, 180, 270)]
    if "mask_image" in kwargs:
        kwargs["mask_image"] = [kwargs["mask_image"]] * 4
    want = pipe(generator=[seeded(i) for i in range(4)], **kwargs).images
    ladder = Ladder(strategies(("shield" if family == "dit" else "rewrite", "resample")))
    guard = Guard(pipe, [MockFilter([False, True, False, False, False])], preferred=["a bear"], ladder=ladder)
    out = guard(generator=[seeded(i) for i in range(4)], **kwargs)
    assert [r.outcome for r in out.reports] == ["clear", "steered", "clear", "clear"], out.reports[1].attempts
    for i in (0, 2, 3):
        assert out.images[i].tobytes() == want[i].tobytes()
    assert out.images[1].tobytes() != want[1].tobytes()


def test_wuerstchen_takes_one_prompt_at_a_time():
    with pytest.raises(InputError, match="WuerstchenCombinedPipeline takes one prompt at a time"):
        Guard(tiny_pipeline("wuerstchen"), [MockFilter(False)])(["a fox", "an owl"], num_inference_steps=2)


@pytest.mark.parametrize("strategy", ["trajectory", "shield", "final-latent", "resample"])
def test_class_labels_are_steered_by_what_needs_no_text(strategy):
    pipe = tiny_pipeline("dit")
    plain = pipe(generator=seeded(), **ask("dit")).images[0]
    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(strategies((strategy,))))
    out = guard(generator=seeded(), **ask("dit"))
    assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts
    assert out.images[0].tobytes() != plain.tobytes()
    assert out.reports[0].prompt == "class 1"
    assert out.reports[0].nfe_plain == 2 * 3
    assert not {"step", "scale_model_input", "set_timesteps"} & set(vars(pipe.scheduler))
    assert pipe(generator=seeded(), **ask("dit")).images[0].tobytes() == plain.tobytes()


def test_a_class_is_rewritten_to_the_class_that_is_preferred():
    pipe = tiny_pipeline("dit")
    pipe.labels = {"red fox": 1, "grey wolf": 2}
    guard = Guard(
        pipe, [MockFilter([True, False])], preferred=["grey wolf"], ladder=Ladder(strategies(("rewrite",)))
    )
    out = guard(generator=seeded(), **ask("dit"))
    assert out.reports[0].prompt == "red fox"
    assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts
    wolf = pipe(generator=seeded(), **{**ask("dit"), "class_labels": [2]}).images[0]
    assert out.images[0].tobytes() == wolf.tobytes()


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
def test_a_class_label_and_its_noise_make_the_plain_picture_bit_for_bit(guidance_scale):
    kwargs = {**ask("dit"), "guidance_scale": guidance_scale}
    runner = PipelineRunner(tiny_pipeline("dit"))
    first = runner.run(generator=seeded(), **kwargs)
    condition = runner.encode("class 1", kwargs)
    again = runner.regenerate(condition, first.start, kwargs=kwargs, generator=seeded(2))
    assert again.images[0].tobytes() == first.images[0].tobytes()


@pytest.mark.parametrize("strategy", ["condition", "rewrite", "trajectory+condition"])
def test_what_needs_a_text_is_passed_over_with_a_reason_where_there_are_class_labels(strategy):
    guard = Guard(
        tiny_pipeline("dit"), [MockFilter([True, False])], ladder=Ladder(strategies((strategy, "resample")))
    )
    out = guard(generator=seeded(), **ask("dit"))
    assert out.reports[0].attempts[0].stopped == "UnsupportedError: DiTPipeline takes no text"
    assert out.reports[0].outcome == Outcome.STEERED


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "class_labels is None"),
        ({"class_labels": 3}, "class_labels is 3"),
        ({"class_labels": [-1]}, "class label -1"),
        ({"class_labels": [10**6]}, "class label 1000000"),
        ({"prompt": "a fox", "class_labels": [1]}, "takes no prompt"),
        ({"class_labels": [1], "num_images_per_prompt": 2}, "takes no num_images_per_prompt"),
    ],
)
def test_what_is_no_class_label_is_named(options, named):
    with pytest.raises(InputError, match=named):
        Guard(tiny_pipeline("dit"), [MockFilter(False)])(num_inference_steps=2, **options)


@pytest.mark.parametrize("family", ["sd1-image", "sd1-inpaint", "sdxl-image", "sdxl-inpaint"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_regeneration_begins_from_the_picture_that_the_pipeline_begins_from(family, strength):
    """Without any push, what inpainting keeps and what img2img takes from its picture are the first run's."""
    pipe = tiny_pipeline(family)
    kwargs = ask(family, strength=strength, num_inference_steps=6)
    runner = PipelineRunner(pipe)
    first = runner.run(generator=seeded(), **kwargs)
    condition = runner.encode(kwargs["prompt"], kwargs)
    again = runner.regenerate(condition, first.start, kwargs=kwargs, generator=seeded(1))
    assert again.steps == first.steps == 6 * strength
    torch.testing.assert_close(again.start, first.start, rtol=1e-4, atol=1e-4)
    drawn = runner.regenerate(condition, None, kwargs=kwargs, generator=seeded(7))
    assert drawn.images[0].tobytes() != first.images[0].tobytes()


@pytest.mark.parametrize("strategy", ["final-latent", "final-latent+condition"])
def test_image_to_image_is_not_resumed_from_another_noise_level(strategy):
    pipe = tiny_pipeline("sd1-image")
    guard = Guard(
        pipe, [MockFilter([True, False])], ladder=Ladder(strategies((strategy,))), preferred=["an owl"]
    )
    report = guard(generator=seeded(), **ask("sd1-image")).reports[0]
    assert report.outcome == Outcome.WITHHELD
    assert "cannot be resumed" in report.attempts[0].stopped


@pytest.mark.parametrize("family", ["sd1-image", "sd1-inpaint", "sdxl-image", "sdxl-inpaint"])
@pytest.mark.parametrize("strategy", ["noise", "noise+condition"])
def test_the_noised_picture_is_nudged_where_a_pass_begins_from_a_picture(family, strategy):
    pipe = tiny_pipeline(family)
    plain = pipe(generator=seeded(), **ask(family)).images[0]
    ladder = Ladder(strategies((strategy,)))
    out = Guard(pipe, [MockFilter([True, False])], preferred=["an owl"], ladder=ladder)(
        generator=seeded(), **ask(family)
    )
    assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts
    assert "noise turned by" in out.reports[0].attempts[0].stopped
    assert out.images[0].tobytes() != plain.tobytes()
    assert pipe(generator=seeded(), **ask(family)).images[0].tobytes() == plain.tobytes()


@pytest.mark.parametrize("family", ["sd1-inpaint", "sdxl-inpaint"])
def test_the_latent_of_a_pass_is_the_one_that_is_decoded_also_where_inpainting_puts_back_what_it_keeps(
    family,
):
    pipe = tiny_pipeline(family)
    run = PipelineRunner(pipe).run(generator=seeded(), **ask(family))
    want = pipe(generator=seeded(), output_type="latent", **ask(family)).images
    torch.testing.assert_close(run.latents, want, rtol=1e-5, atol=1e-5)
    assert "decode" not in vars(pipe.vae)


@pytest.mark.parametrize("family", ["sd1-inpaint", "sdxl-inpaint"])
def test_what_inpainting_puts_back_cannot_lead_a_shielded_latent_into_a_ball_unseen(family):
    """The kept half is the protected picture's own, so its ball is never left; the ball of another is."""
    runner, kwargs = PipelineRunner(tiny_pipeline(family)), ask(family)
    first = runner.run(generator=seeded(), **kwargs)
    task = SteerTask(
        runner=runner,
        prompt="a small fox",
        seed=1,
        kwargs=kwargs,
        start=first.start,
        clean=first.latents,
        unwanted=first.latents,
    )
    with pytest.raises(ArithmeticError, match=r"inside the radius of 0\.8"):
        Shield(nudge_condition=False).apply(task, 7)
    other = first.latents.clone()
    other[..., :4] += 3 * first.latents.std()  # in the kept half
    task.unwanted = other
    run = Shield(nudge_condition=False, radius=0.3).apply(task, 7).run
    assert float(distances(run.latents, other)) >= 0.3 * 0.99


def test_inpainting_in_nine_channels_is_guarded_too():
    from diffusers import UNet2DConditionModel

    pipe = tiny_pipeline("sd1-inpaint")
    torch.manual_seed(0)
    pipe.register_modules(unet=UNet2DConditionModel.from_config(pipe.unet.config, in_channels=9).eval())
    assert pipe.unet.conv_in.in_channels == 9
    plain = pipe(generator=seeded(), **ask("sd1-inpaint")).images[0]
    ladder = Ladder(strategies(("rewrite",)))
    out = Guard(pipe, [MockFilter(False)])(generator=seeded(), **ask("sd1-inpaint"))
    assert out.images[0].tobytes() == plain.tobytes()
    guard = Guard(pipe, [MockFilter([True, False])], preferred=["an owl"], ladder=ladder)
    out = guard(generator=seeded(), **ask("sd1-inpaint"))
    assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts
