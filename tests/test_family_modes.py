"""Every family in every mode: gradients, through the denoiser or not, half precision, guidance or not."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from steerclear.errors import InputError
from steerclear.generators import PipelineRunner
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.testing import FAMILIES, MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Outcome

QUICK = {"sd1", "flux", "dit", "kandinsky22", "cascade", "sdxl-inpaint"}
EVERY = [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in FAMILIES]


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def ask(family, **more):
    return {**tiny_call(family, "a small fox", steps=3), **more}


def guidance(pipe, scale):
    takes = inspect.signature(type(pipe).__call__).parameters
    return {name: scale for name in ("guidance_scale", "decoder_guidance_scale") if name in takes}


def handed_out(pipe, strategy, kwargs, generator=seeded):
    """A guard's output for a flagged first picture, after a check that a clear one is bit-identical."""
    plain = pipe(generator=generator(), **kwargs).images[0]
    clear = Guard(pipe, [MockFilter(False)])(generator=generator(), **kwargs)
    assert clear.images[0].tobytes() == plain.tobytes()
    guard = Guard(pipe, [MockFilter([True, False])], ladder=Ladder(strategies((strategy,))))
    out = guard(generator=generator(), **kwargs)
    assert not {"step", "scale_model_input"} & set(vars(pipe.scheduler))
    assert pipe(generator=generator(), **kwargs).images[0].tobytes() == plain.tobytes()
    return out, plain


@pytest.mark.parametrize("family", EVERY)
def test_the_gradient_through_the_denoiser_agrees_with_finite_differences(family):
    pipe, kwargs = tiny_pipeline(family), ask(family)
    runner = PipelineRunner(pipe)
    start = runner.run(generator=seeded(), **kwargs).start
    condition = runner.encode("class 1" if family == "dit" else "a small fox", kwargs)
    direction, weight = torch.randn(2, *start.shape, generator=seeded(2))

    def value(latent):
        denoised, _ = runner.predict(condition, latent, kwargs=kwargs, generator=seeded(3))
        return (denoised * weight).sum()

    with torch.enable_grad():
        leaf = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(value(leaf), leaf)
    h = 1e-2
    with torch.no_grad():
        slope = (value(start + h * direction) - value(start - h * direction)) / (2 * h)
    assert float(gradient.abs().sum()) > 0
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("family", EVERY)
def test_both_gradient_modes_steer(family):
    for strategy in ("trajectory", "trajectory-through"):
        out, plain = handed_out(tiny_pipeline(family), strategy, ask(family))
        assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts
        assert out.images[0].tobytes() != plain.tobytes()


GRADIENT_STRATEGIES = ("noise", "trajectory-through", "trajectory", "magnitude", "final-latent", "condition")
QUICK_STRATEGIES = GRADIENT_STRATEGIES[:2]  # through the denoiser
HALVES = [
    pytest.param(
        family,
        dtype,
        strategy,
        marks=() if family in ("sd1", "flux") and strategy in QUICK_STRATEGIES else pytest.mark.slow,
        id=f"{family}-{strategy}-{str(dtype).removeprefix('torch.')}",
    )
    for family in FAMILIES
    for dtype in (torch.bfloat16, torch.float16)
    for strategy in GRADIENT_STRATEGIES
    # in float16 the plain pipeline of tiny random weights makes pixels that are no numbers
    if (family, dtype) != ("wuerstchen", torch.float16)
]


@pytest.mark.filterwarnings("ignore:.*upcast_vae:FutureWarning")  # diffusers calls it itself
@pytest.mark.parametrize(("family", "dtype", "strategy"), HALVES)
def test_every_gradient_strategy_works_in_half_precision_where_it_works_in_float32(family, dtype, strategy):
    reference, _ = handed_out(tiny_pipeline(family), strategy, ask(family))
    out, plain = handed_out(tiny_pipeline(family).to(dtype), strategy, ask(family))
    attempts = [[a.stopped for a in result.reports[0].attempts] for result in (reference, out)]
    assert out.reports[0].outcome == reference.reports[0].outcome, attempts
    if out.reports[0].outcome == Outcome.STEERED:
        assert out.images[0].tobytes() != plain.tobytes()


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("family", EVERY)
def test_any_guidance_is_guarded(family, scale):
    pipe = tiny_pipeline(family)
    out, plain = handed_out(pipe, "trajectory", ask(family, **guidance(pipe, scale)))
    assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts
    assert out.images[0].tobytes() != plain.tobytes()


@pytest.mark.parametrize("family", EVERY)
def test_one_step_is_guarded(family):
    # PixArt-α takes the clean latent of its only step from the scheduler, and its own does not tell it
    pipe = tiny_pipeline(family, "DDPMScheduler" if family == "pixart-alpha" else None)
    kwargs = ask(family, num_inference_steps=1)
    if "strength" in kwargs:
        kwargs["strength"] = 1.0
    out, _ = handed_out(pipe, "trajectory", kwargs)
    assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts


def test_one_step_of_a_scheduler_that_tells_no_clean_latent_is_refused_before_anything_is_denoised():
    guard = Guard(tiny_pipeline("pixart-alpha"), [MockFilter(False)])
    with pytest.raises(InputError, match="DPMSolverMultistepScheduler cannot make a picture in one step"):
        guard(**ask("pixart-alpha", num_inference_steps=1))


@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in FAMILIES if f != "cogview4"],
)
def test_a_picture_does_not_depend_on_its_batch(family):
    """With one generator per image, up to one grey level: matrix products round differently in a batch."""
    pipe, kwargs = tiny_pipeline(family), ask(family)
    alone = pipe(generator=[seeded(8)], **kwargs).images[0]
    if family == "dit":
        kwargs["class_labels"] = [2, 1]
    elif family == "wuerstchen":  # it takes one prompt at a time
        kwargs["num_images_per_prompt"] = 2
    else:
        kwargs["prompt"] = ["a boat on the sea", kwargs["prompt"]]
    for name in ("image", "mask_image", "negative_prompt"):
        if name in kwargs:
            kwargs[name] = [kwargs[name]] * 2
    out = Guard(pipe, [MockFilter(False)])(generator=[seeded(7), seeded(8)], **kwargs)
    difference = np.asarray(alone, dtype=int) - np.asarray(out.images[1], dtype=int)
    assert np.abs(difference).max() <= 1
