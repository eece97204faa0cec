"""What users pass to a pipeline, they may pass to its guard: embeddings, noise, forms of output, numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from steerclear.errors import InputError, WithheldError
from steerclear.filters import PromptFilter
from steerclear.generators import PipelineRunner
from steerclear.generators.conditions import EMBEDS
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.pixels import to_tensor
from steerclear.testing import FAMILIES, MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Outcome

SAMPLE = {"sd1", "sdxl", "flux", "pixart"}  # of the walks; all families are in the slow tier


def walked(families):
    return [pytest.param(f, marks=() if f in SAMPLE else pytest.mark.slow) for f in families]


PROMPTED = [family for family in FAMILIES if family != "dit"]
TWO_STAGES = {"kandinsky22", "wuerstchen", "cascade"}
EMBEDDED = [family for family in PROMPTED if family not in TWO_STAGES]
NO_LATENTS = {"dit", "flux2"}
FAST = {"num_inference_steps": 2, "guidance_scale": 4.0}


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def ask(family, **more):
    return {**tiny_call(family, "a small fox", steps=2), **more}


def embedded(pipe, family, **more):
    """The family's call with the prompt's embeddings in the prompt's place."""
    call = ask(family, **more)
    text = call.pop("prompt")
    condition = PipelineRunner(pipe).encode(text, call)
    if any(name.startswith("negative") for name in condition):
        call["negative_prompt"] = None  # else some families take their own default beside the embeddings
    if family == "flux2":  # it encodes a blank negative prompt itself, which needs a text encoder
        call["guidance_scale"] = 1.0
    return {**call, **condition}


def guard_of(pipe, verdicts, *names, **options):
    return Guard(pipe, [MockFilter(verdicts)], ladder=Ladder(strategies(names or ("rewrite",))), **options)


def without_text_encoders(pipe):
    """The pipeline as servers hold it that encode prompts elsewhere."""
    for name in list(pipe.components):
        if name.startswith(("text_encoder", "tokenizer")):
            setattr(pipe, name, None)
    return pipe


# ── embeddings in the place of a prompt ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", walked(EMBEDDED))
def test_a_clear_picture_of_given_embeddings_is_the_plain_pipelines(family):
    pipe = tiny_pipeline(family)
    call = embedded(pipe, family)
    plain = pipe(generator=seeded(), **call).images[0]
    for text in ({}, {"prompt": "a small fox"}):
        out = guard_of(pipe, False)(generator=seeded(), **call, **text)
        assert out.images[0].tobytes() == plain.tobytes()
        assert out.reports[0].prompt == text.get("prompt", "")
        assert out.reports[0].overhead == 1.0


@pytest.mark.parametrize("family", walked(EMBEDDED))
@pytest.mark.parametrize("strategy", ["rewrite", "trajectory+condition", "resample"])
def test_a_flagged_picture_of_given_embeddings_is_steered(family, strategy):
    pipe = tiny_pipeline(family)
    guard = guard_of(pipe, [True, False], strategy, preferred=["an owl at night"])
    out = guard(generator=seeded(), **embedded(pipe, family))
    if family == "zimage" and strategy == "trajectory+condition":  # lists of embeddings
        assert "cannot be nudged" in out.reports[0].attempts[0].stopped
    else:
        assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts


@pytest.mark.parametrize("family", walked(EMBEDDED))
def test_without_a_text_encoder_in_memory_the_default_ladder_still_steers_and_says_what_cannot_be(family):
    pipe = tiny_pipeline(family)
    call = embedded(pipe, family)
    plain = pipe(generator=seeded(), **call).images[0]
    guard = Guard(without_text_encoders(pipe), [MockFilter([True, False])])
    out = guard(generator=seeded(), **call)
    report = out.reports[0]
    assert "needs a text encoder" in report.attempts[0].stopped  # the rewrite
    if family == "zimage":  # lists of embeddings, which cannot be nudged
        assert report.outcome == Outcome.STEERED, report.attempts
    else:
        assert report.outcome == Outcome.STEERED, report.attempts
        assert out.images[0].tobytes() != plain.tobytes()
    with pytest.raises(InputError, match=r"so it cannot read 'a small fox'; .* or pass prompt_embeds"):
        guard(**ask(family))


def test_where_nothing_is_known_to_nudge_towards_the_attempt_says_so():
    pipe = tiny_pipeline("flux")
    call = embedded(pipe, "flux")
    out = guard_of(without_text_encoders(pipe), True, "condition")(**call)
    assert "neither a text nor a negative prompt" in out.reports[0].attempts[0].stopped
    pipe = tiny_pipeline("sd1")
    call = embedded(pipe, "sd1")
    out = guard_of(without_text_encoders(pipe), [True, False], "condition")(**call)
    assert out.reports[0].attempts[0].stopped == "prompt embedding nudged towards no prompt"


def test_without_a_prompts_text_nothing_is_shortened_and_the_blank_prompt_pulls():
    pipe = tiny_pipeline("sd1")
    call = embedded(pipe, "sd1")
    out = guard_of(pipe, [True, True, False], "despecified", "rewrite", "condition")(**call)
    stopped = [attempt.stopped for attempt in out.reports[0].attempts]
    assert all("no text was given" in why for why in stopped[:2])
    assert stopped[2] == "prompt embedding nudged towards no prompt"
    shortened = guard_of(pipe, [True, False], "despecified")(**call, prompt="a small fox")
    assert shortened.reports[0].outcome == Outcome.STEERED


def test_prompts_longer_than_the_text_encoder_reads_are_rewritten_at_their_length():
    pipe = tiny_pipeline("sd1")
    call = embedded(pipe, "sd1")
    call = {name: torch.cat([v, v], dim=1) if "embeds" in name else v for name, v in call.items()}
    assert call[EMBEDS].shape[1] == 154
    for strategy in ("rewrite", "condition"):
        out = guard_of(pipe, [True, False], strategy, preferred=["an owl"])(**call)
        assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts


def test_each_image_of_a_batch_is_steered_from_its_own_embeddings_and_noise():
    pipe = tiny_pipeline("sdxl")
    calls = [embedded(pipe, "sdxl", prompt=text) for text in ("a fox", "an owl")]
    both = {k: torch.cat([c[k] for c in calls]) if torch.is_tensor(v) else v for k, v in calls[0].items()}
    noise = torch.randn(2, 4, 8, 8, generator=seeded())
    plain = pipe(**both, latents=noise).images
    out = guard_of(pipe, [False, True, False], "final-latent")(
        **both, latents=noise, prompt=["a fox", "an owl"]
    )
    assert [report.outcome for report in out.reports] == [Outcome.CLEAR, Outcome.STEERED]
    assert out.images[0].tobytes() == plain[0].tobytes()
    alone = guard_of(pipe, [True, False], "final-latent")(**calls[1], latents=noise[1:])
    apart = (to_tensor([out.images[1]]) - to_tensor([alone.images[0]])).abs().max()
    assert float(apart) < 0.1  # the seeds of what is noised back differ, the rest is the image's own


def test_a_guard_that_reads_prompts_wants_the_text_of_given_embeddings():
    pipe = tiny_pipeline("sd1")
    call = embedded(pipe, "sd1")
    guard = Guard(pipe, [MockFilter(False), PromptFilter.of(["acme fox"])])
    with pytest.raises(InputError, match=r"pass prompt=… with the text"):
        guard(**call)
    assert guard(**call, prompt="a bear").reports[0].outcome == Outcome.CLEAR
    with pytest.raises(InputError, match="2 prompts were given beside prompt_embeds of 1"):
        guard(**call, prompt=["a bear", "a fox"])
    with pytest.raises(InputError, match="prompt_embeds is int; pass a tensor"):
        guard(prompt_embeds=1)


# ── the caller's own noise ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "family", ["sd1", "sdxl", "sd3", "flux", "pixart", "qwen", "kandinsky3", "sd1-inpaint"]
)
def test_the_callers_noise_is_used_and_no_seed_is_told_for_it(family):
    pipe = tiny_pipeline(family)
    call = ask(family, **({"strength": 1.0} if "strength" in ask(family) else {}))
    start = PipelineRunner(pipe).run(generator=seeded(3), **call).start
    plain = pipe(generator=seeded(), latents=start, **call).images[0]
    out = guard_of(pipe, False)(generator=seeded(), latents=start, **call)
    assert out.images[0].tobytes() == plain.tobytes()
    assert out.reports[0].seed is None
    steered = guard_of(pipe, [True, False], preferred=["an owl"])(latents=start, **call)
    assert steered.reports[0].outcome == Outcome.STEERED, steered.reports[0].attempts


def test_each_image_of_a_prompt_has_its_own_noise_in_its_attempts():
    pipe = tiny_pipeline("sd1")
    noise = torch.randn(2, 4, 8, 8, generator=seeded())
    call = {**FAST, "latents": noise, "num_images_per_prompt": 2}
    out = guard_of(pipe, [False, True, False], preferred=["an owl"])("a fox", **call)
    want = pipe("an owl", latents=noise[1:], **FAST).images[0]
    assert out.images[1].tobytes() == want.tobytes()  # rewritten, from the second image's noise
    for wrong in (noise[:1], "noise", [noise]):
        with pytest.raises(InputError, match="pass a tensor with noise for each of 2 images"):
            guard_of(pipe, False)("a fox", **{**call, "latents": wrong})


# ── what is handed out ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("family", walked(FAMILIES))
def test_every_form_of_output_holds_the_pixels_that_were_checked(family):
    pipe = tiny_pipeline(family)
    plain = pipe(generator=seeded(), **ask(family)).images[0]
    guard = guard_of(pipe, False)
    array = guard(generator=seeded(), output_type="np", **ask(family)).images
    tensor = guard(generator=seeded(), output_type="pt", **ask(family)).images
    assert array.dtype == np.float32
    assert array.shape == (1, plain.height, plain.width, 3)
    assert (array[0] * 255).round().astype(np.uint8).tobytes() == plain.tobytes()
    assert torch.equal(tensor.permute(0, 2, 3, 1), torch.from_numpy(array))
    whole = pipe(generator=seeded(), output_type="np", **ask(family)).images
    assert np.abs(whole - array).max() <= 0.501 / 255  # the pipeline's own, before they are rounded


@pytest.mark.parametrize("family", walked(FAMILIES))
def test_a_latent_is_handed_out_after_its_picture_was_checked(family):
    pipe = tiny_pipeline(family)
    looked = MockFilter(False)
    guard = Guard(pipe, [looked])
    if family in NO_LATENTS:
        with pytest.raises(InputError, match="gives no latents that a guard could hand out"):
            guard(output_type="latent", **ask(family))
        return
    plain = pipe(generator=seeded(), output_type="latent", **ask(family)).images
    latents = guard(generator=seeded(), output_type="latent", **ask(family)).images
    if family.endswith("-inpaint"):  # read where the autoencoder decodes it, and scaled back
        torch.testing.assert_close(latents, plain, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(latents, plain)


@pytest.mark.parametrize("output_type", ["np", "pt", "latent"])
def test_what_is_withheld_is_none_or_a_placeholder_in_every_form(output_type):
    pipe = tiny_pipeline("sd1")
    call = {**FAST, "output_type": output_type}
    out = guard_of(pipe, [False, True, True])(["a fox", "an owl"], generator=seeded(), **call)
    assert isinstance(out.images, list)
    assert out.images[1] is None
    grey = guard_of(pipe, [False, True, True], on_withheld="placeholder")(
        ["a fox", "an owl"], generator=seeded(), **call
    )
    assert len(grey.images) == 2
    assert not isinstance(grey.images, list)
    assert np.array_equal(np.asarray(grey.images[0]), np.asarray(out.images[0]))
    want = 0.0 if output_type == "latent" else np.float32(128 / 255)
    assert bool((grey.images[1] == want).all())
    with pytest.raises(WithheldError) as error:
        guard_of(pipe, True, on_withheld="raise")("a fox", **call)
    assert error.value.output.images == [None]


def test_the_latent_of_a_steered_picture_is_that_of_the_candidate_which_passed():
    pipe = tiny_pipeline("sd1")
    guard = guard_of(pipe, [True, True, False], "rewrite", "resample", preferred=["an owl"])
    out = guard("a fox", generator=seeded(), output_type="latent", **FAST)
    shown = guard_of(pipe, [True, True, False], "rewrite", "resample", preferred=["an owl"])(
        "a fox", generator=seeded(), **FAST
    )
    assert out.reports[0].attempts[-1].strategy == "resample"
    decoded = pipe.vae.decode(out.images / pipe.vae.config.scaling_factor).sample
    assert pipe.image_processor.postprocess(decoded.detach())[0].tobytes() == shown.images[0].tobytes()


@pytest.mark.parametrize("family", walked(FAMILIES))
def test_without_return_dict_the_tuple_is_as_the_pipelines(family):
    pipe = tiny_pipeline(family)
    plain = pipe(generator=seeded(), return_dict=False, **ask(family))
    handed_out = guard_of(pipe, False)(generator=seeded(), return_dict=False, **ask(family))
    assert isinstance(handed_out, tuple)
    assert len(handed_out) == len(plain)
    # these two give the list itself, with or without
    first = plain[0] if family in {"wuerstchen", "cascade"} else plain[0][0]
    assert handed_out[0][0].tobytes() == first.tobytes()
    assert handed_out[1:] in ((), ([False],))


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_numpys_numbers_and_tuples_of_generators_mean_what_pythons_and_lists_do():
    pipe = tiny_pipeline("sd1")
    plain = pipe(
        "a fox",
        num_inference_steps=2,
        height=64,
        width=72,
        num_images_per_prompt=2,
        generator=[seeded(1), seeded(2)],
    ).images
    out = guard_of(pipe, False)(
        "a fox",
        num_inference_steps=np.int64(2),
        height=np.int32(64),
        width=np.uint16(72),
        num_images_per_prompt=np.int64(2),
        generator=(seeded(1), seeded(2)),
    )
    assert [image.tobytes() for image in out.images] == [image.tobytes() for image in plain]
    classes = tiny_pipeline("dit")
    out = guard_of(classes, False)(class_labels=list(np.array([1, 2])), num_inference_steps=2)
    assert [report.prompt for report in out.reports] == ["class 1", "class 2"]


@pytest.mark.parametrize("family", walked(["sd1", "sdxl", "sd3", "flux", "pixart", "lumina2", "cogview4"]))
@pytest.mark.parametrize("side", ["height", "width"])
def test_of_one_side_alone_the_other_is_the_pipelines_own(family, side):
    pipe = tiny_pipeline(family)
    call = {name: value for name, value in ask(family).items() if name not in ("height", "width")}
    out = guard_of(pipe, False)(generator=seeded(), **call, **{side: 96})
    assert out.images[0].size == ((64, 96) if side == "height" else (96, 64))
    both = pipe(generator=seeded(), **call, **{"height": 64, "width": 64, side: 96}).images[0]
    assert out.images[0].tobytes() == both.tobytes()


def test_one_side_alone_is_refused_where_the_other_is_not_known():
    with pytest.raises(InputError, match="since it does not say; pass both height and width"):
        guard_of(tiny_pipeline("zimage"), False)("a fox", height=64)
    with pytest.raises(InputError, match="since it may follow the given picture"):
        guard_of(tiny_pipeline("sdxl-inpaint"), False)(**ask("sdxl-inpaint"), width=64)
    with pytest.raises(InputError, match="output_type is 'jpeg'; there are pil, np, pt, latent"):
        guard_of(tiny_pipeline("sd1"), False)("a fox", output_type="jpeg")
    assert isinstance(guard_of(tiny_pipeline("sd1"), False)("a fox", **FAST).images[0], Image.Image)
