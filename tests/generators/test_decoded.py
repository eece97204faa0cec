"""A picture cannot tell that its pixels were no numbers: they are black in it. The run tells, so it flags."""

from __future__ import annotations

import math
from functools import wraps

import pytest
import torch
from PIL import Image

from steerclear.errors import UnsupportedError
from steerclear.generators.passes import Pass
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.nudge.base import Candidate
from steerclear.nudge.ladder import strategies
from steerclear.steering import generators
from steerclear.testing import MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Outcome

FAST = {"num_inference_steps": 2, "guidance_scale": 4.0}
LADDER = Ladder(strategies(("rewrite", "condition", "final-latent+condition", "trajectory", "resample")))

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")


def spoil(module, method, when=lambda call: True, value=math.nan):
    """Let one pixel of the last row of what a method returns be no number, at the calls that `when` names."""
    original, calls = getattr(module, method), []

    def spoilt(*args, **kwargs):
        output = original(*args, **kwargs)
        calls.append(1)
        if when(len(calls)):
            pixels = output if isinstance(output, torch.Tensor) else output[0]
            pixels.data[-1, ..., 0, 0] = value
        return output

    setattr(module, method, spoilt)
    return calls


def errors(detections):
    return [d.error for d in detections if d.filter == "finite" and d.flagged]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_decoder_that_makes_no_number_of_a_finite_latent_flags_in_every_precision(dtype, value):
    pipe = tiny_pipeline("sd1").to(dtype)
    spoil(pipe.vae.decoder, "forward", value=value)
    out = Guard(pipe, [MockFilter(False)], ladder=Ladder(()))(
        ["a fox", "an owl"], generator=generators([1, 2]), **FAST
    )
    assert [r.outcome for r in out.reports] == [Outcome.CLEAR, Outcome.WITHHELD]
    assert errors(out.reports[1].detections) == ["the latent or the decoded pixels are not finite"]


@pytest.mark.parametrize(
    "family", ["sd1", "sdxl", "flux", "qwen", "dit", "kandinsky22", "kandinsky3", "wuerstchen"]
)
def test_pixels_that_stop_being_numbers_after_the_decoder_flag_too(family):
    """What autoencoders do after their last module: tiles put together, values clamped, or no such module."""
    pipe = tiny_pipeline(family)
    autoencoder = next(m for m in (getattr(pipe, n, None) for n in ("vae", "movq", "vqgan")) if m is not None)
    calls = spoil(autoencoder, "decode")
    out = Guard(pipe, [MockFilter(False)], ladder=Ladder(()))(
        **({"generator": generators([1])[0]} | tiny_call(family))
    )
    assert calls
    assert out.images == [None]
    assert errors(out.reports[0].detections)


def test_a_rungs_picture_that_is_no_number_is_not_handed_out_whichever_rung_made_it():
    pipe = tiny_pipeline("sd1")
    spoil(pipe.vae.decoder, "forward", when=lambda call: call > 1)
    guard = Guard(pipe, [MockFilter([True] + [False] * 20)], ladder=LADDER, preferred=["a bear"])
    out = guard("a fox", generator=generators([1])[0], **FAST)
    assert out.images == [None]
    with_pictures = [attempt for attempt in out.reports[0].attempts if attempt.after]
    assert len(with_pictures) == len(LADDER.rungs)
    assert all(errors(attempt.after) for attempt in with_pictures)


def test_a_run_that_does_not_say_whether_its_pixels_are_finite_is_not_believed():
    class Painter:
        name = "painter"

        def apply(self, task, seed):
            return Candidate(Pass(images=[Image.new("RGB", (64, 64))], latents=task.clean), "")

    guard = Guard(tiny_pipeline("sd1"), [MockFilter([True, False])], ladder=Ladder((Painter(),)))
    out = guard("a fox", generator=generators([1])[0], **FAST)
    assert out.images == [None]
    assert "says of 0 pictures, not of 1" in errors(out.reports[0].attempts[0].after)[0]


@pytest.mark.parametrize("convert", [torch.tensor, list, lambda rows: Image.new("F", (64, 64), math.nan)])
def test_a_pipeline_that_gives_anything_but_pictures_is_refused(convert):
    pipe = tiny_pipeline("sd1")

    class Odd(type(pipe)):
        @wraps(type(pipe).__call__)
        def __call__(self, *args, **kwargs):
            output = super().__call__(*args, **kwargs)
            output.images = [convert([[0.5]])]
            return output

    pipe.__class__ = Odd
    with pytest.raises(UnsupportedError, match="convert"):
        Guard(pipe, [MockFilter(False)])("a fox", generator=generators([1])[0], **FAST)


def test_whoever_keeps_the_pipelines_pictures_cannot_paint_over_what_is_handed_out():
    pipe = tiny_pipeline("sd1")
    plain = pipe("a fox", generator=generators([1])[0], **FAST).images[0]
    kept = []

    class Keeping(type(pipe)):
        @wraps(type(pipe).__call__)
        def __call__(self, *args, **kwargs):
            output = super().__call__(*args, **kwargs)
            kept.extend(output.images)
            return output

    pipe.__class__ = Keeping
    out = Guard(pipe, [MockFilter(lambda image: kept[0].paste((1, 1, 1), (0, 0, 64, 64)) or False)])(
        "a fox", generator=generators([1])[0], **FAST
    )
    assert out.images[0].tobytes() == plain.tobytes() != kept[0].tobytes()
