"""Flow-matching image-to-image and inpainting: a flagged picture is steered, as from pure noise."""

from __future__ import annotations

import diffusers
import pytest
import torch

from steerclear.generators import PipelineRunner
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.testing import MockFilter
from steerclear.testing.variants import tiny_variant, variant_call
from steerclear.types import Outcome

IMAGE_TO_IMAGE = [
    "FluxImg2ImgPipeline",
    "QwenImageImg2ImgPipeline",
    "StableDiffusion3Img2ImgPipeline",
    "ZImageImg2ImgPipeline",
]
INPAINTING = [
    "FluxInpaintPipeline",
    "QwenImageInpaintPipeline",
    "StableDiffusion3InpaintPipeline",
    "ZImageInpaintPipeline",
]
# these show their latent nowhere but where they prepare it, under whatever scheduler
PREPARED = ["Kandinsky3Img2ImgPipeline", "LatentConsistencyModelImg2ImgPipeline"]
LISTS = {"ZImageImg2ImgPipeline", "ZImageInpaintPipeline"}
QUICK = {"FluxImg2ImgPipeline", "StableDiffusion3InpaintPipeline", *PREPARED}


def each(names):
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def built(name):
    cls = getattr(diffusers, name)
    return tiny_variant(cls), variant_call(cls, "a small fox", steps=4)


@pytest.mark.parametrize("name", each(IMAGE_TO_IMAGE))
def test_the_noised_picture_that_a_run_began_with_makes_its_picture_again(name):
    pipe, kwargs = built(name)
    runner = PipelineRunner(pipe)
    first = runner.run(generator=seeded(), **kwargs)
    condition = runner.encode(kwargs["prompt"], kwargs)
    again = runner.regenerate(condition, first.start, kwargs=kwargs, generator=seeded(2))
    assert again.images[0].tobytes() == first.images[0].tobytes()
    drawn = runner.regenerate(condition, None, kwargs=kwargs, generator=seeded(7))
    assert drawn.images[0].tobytes() != first.images[0].tobytes()


@pytest.mark.parametrize(
    "strategy", ["rewrite", "condition", "noise+condition", "trajectory", "shield", "resample"]
)
@pytest.mark.parametrize("name", each([*IMAGE_TO_IMAGE, *INPAINTING, *PREPARED]))
def test_a_flagged_picture_is_steered_and_the_pipeline_left_as_it_was(name, strategy):
    pipe, kwargs = built(name)
    plain = pipe(generator=seeded(), **kwargs).images[0]
    guard = Guard(
        pipe,
        [MockFilter([True, False])],
        preferred=["an owl at night"],
        ladder=Ladder(strategies((strategy,))),
    )
    out = guard(generator=seeded(), **kwargs)
    report = out.reports[0]
    if name in LISTS and "condition" in strategy:
        assert "cannot be nudged" in report.attempts[0].stopped
    elif strategy == "shield" and report.outcome == Outcome.WITHHELD:
        # what inpainting keeps is the flagged picture's own
        assert name in INPAINTING
        assert "inside the radius" in report.attempts[0].stopped
    else:
        assert report.outcome == Outcome.STEERED, report.attempts
        assert out.images[0].tobytes() != plain.tobytes()
    assert not {"step", "scale_model_input"} & set(vars(pipe.scheduler))
    assert "prepare_latents" not in vars(pipe)
    assert pipe(generator=seeded(), **kwargs).images[0].tobytes() == plain.tobytes()
