"""The promise on every pipeline family: clear pictures untouched, flagged ones steered, the pipeline left as it was."""

from __future__ import annotations

import pytest
import torch

from steerclear.errors import UnsupportedError
from steerclear.generators import PipelineGenerator
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.testing import FAMILIES, MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Outcome

# a guard reads prompts, and DiT takes class labels
PROMPTED = [family for family in FAMILIES if family != "dit"]
LISTS = {"zimage"}  # embeddings of any length in lists: prompts can be rewritten, embeddings not nudged


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def ask(family, prompt="a small fox", **more):
    return {**tiny_call(family, prompt, steps=3), **more}


@pytest.mark.parametrize("family", PROMPTED)
def test_an_encoded_prompt_and_its_noise_make_the_plain_picture_bit_for_bit(family):
    pipe = tiny_pipeline(family)
    kwargs = ask(family)
    generator = PipelineGenerator(pipe)
    first = generator.run(generator=seeded(), **kwargs)
    again = generator.regenerate(generator.encode(kwargs["prompt"], kwargs), first.start, kwargs, seeded(2))
    assert again.images[0].tobytes() == first.images[0].tobytes()
    assert again.nfe == first.nfe


@pytest.mark.parametrize("family", PROMPTED)
def test_a_clear_picture_of_any_family_is_bit_identical_to_the_plain_pipelines(family):
    pipe = tiny_pipeline(family)
    want = pipe(generator=seeded(), **ask(family)).images[0]
    out = Guard(pipe, [MockFilter(False)])(generator=seeded(), **ask(family))
    assert out.images[0].tobytes() == want.tobytes()
    assert out.reports[0].overhead == 1.0


@pytest.mark.parametrize("family", PROMPTED)
@pytest.mark.parametrize("strategy", ["rewrite", "condition", "final-latent+condition", "resample"])
def test_a_flagged_picture_of_any_family_is_steered_and_the_pipeline_left_as_it_was(family, strategy):
    pipe = tiny_pipeline(family)
    plain = pipe(generator=seeded(), **ask(family)).images[0]
    ladder = Ladder(strategies((strategy,)))
    guard = Guard(pipe, [MockFilter([True, False])], preferred=["an owl at night"], ladder=ladder)
    out = guard(generator=seeded(), **ask(family))
    report = out.reports[0]
    if family in LISTS and strategy != "rewrite":
        assert report.outcome == Outcome.WITHHELD
        assert "cannot be nudged" in report.attempts[0].stopped
    else:
        assert report.outcome == Outcome.STEERED, report.attempts
        assert out.images[0].tobytes() != plain.tobytes()
    assert "step" not in vars(pipe.scheduler)
    assert pipe(generator=seeded(), **ask(family)).images[0].tobytes() == plain.tobytes()


@pytest.mark.parametrize("family", PROMPTED)
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
    generator = PipelineGenerator(pipe)
    first = generator.run(generator=seeded(), **kwargs)
    again = generator.regenerate(generator.encode(kwargs["prompt"], kwargs), first.start, kwargs, seeded(2))
    assert again.images[0].tobytes() == first.images[0].tobytes()


def test_a_family_whose_encoding_is_not_known_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="DiTPipeline"):
        PipelineGenerator(tiny_pipeline("dit")).encode("a fox", {})
