"""What a prompt becomes is read from the pipeline's own call, for every class alike."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionPipeline

from steerclear.errors import UnsupportedError
from steerclear.generators import PipelineRunner
from steerclear.generators.conditions import encode, is_guided, unknown_encoding
from steerclear.guard import Guard
from steerclear.nudge import Ladder
from steerclear.nudge.ladder import strategies
from steerclear.testing import MockFilter, tiny_call, tiny_pipeline
from steerclear.types import Outcome


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


class HandsOn(StableDiffusionPipeline):
    """Takes what it does not know as keywords, and hands it on."""

    def __call__(self, prompt, **kwargs):
        return super().__call__(prompt, **kwargs)


class EncodesItself(StableDiffusionPipeline):
    """Gives its text encoder something that its caller does not know."""

    @torch.no_grad()
    def __call__(self, prompt, prompt_embeds=None, latents=None, guidance_scale=1.0, **kwargs):
        clip_skip = None if prompt else 1
        prompt_embeds, _ = self.encode_prompt(prompt, self._execution_device, 1, False, clip_skip=clip_skip)
        return StableDiffusionPipeline.__call__(
            self,
            prompt_embeds=prompt_embeds,
            guidance_scale=guidance_scale,
            latents=latents,
            **kwargs,
        )


def tiny(cls, family="sd1"):
    pipe = cls(**tiny_pipeline(family).components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.eval()
    return pipe


@pytest.mark.parametrize("strategy", ["rewrite", "condition", "trajectory+condition", "resample"])
@pytest.mark.parametrize("cls", [HandsOn, EncodesItself])
def test_a_pipeline_of_your_own_is_steered(cls, strategy):
    pipe = tiny(cls)
    plain = pipe("a fox", num_inference_steps=3, generator=seeded()).images[0]
    guard = Guard(
        pipe, [MockFilter([True, False])], preferred=["an owl"], ladder=Ladder(strategies((strategy,)))
    )
    out = guard("a fox", num_inference_steps=3, generator=seeded())
    if cls is EncodesItself and "condition" in strategy:
        assert "cannot be nudged" in out.reports[0].attempts[0].stopped
    else:
        assert out.reports[0].outcome == Outcome.STEERED, out.reports[0].attempts
        assert out.images[0].tobytes() != plain.tobytes()


def test_a_subclass_that_hands_its_arguments_on_has_those_of_the_class_that_it_extends():
    pipe = tiny(HandsOn)
    assert is_guided(pipe, {})
    assert not is_guided(pipe, {"guidance_scale": 1.0})
    runner, kwargs = PipelineRunner(pipe), {"num_inference_steps": 3}
    first = runner.run(prompt="a fox", generator=seeded(), **kwargs)
    again = runner.regenerate(encode(pipe, "a fox", kwargs), first.start, kwargs=kwargs, generator=seeded(2))
    assert again.images[0].tobytes() == first.images[0].tobytes()


def test_what_a_call_makes_itself_for_its_text_encoder_is_named():
    why = unknown_encoding(EncodesItself)
    assert why == "its encode_prompt is given clip_skip, which its call makes itself"
    assert encode(tiny(EncodesItself), "a fox", {}) == {"prompt": ["a fox"]}


def test_a_call_whose_source_cannot_be_read_is_given_the_text_itself():
    names = {"StableDiffusionPipeline": StableDiffusionPipeline}
    exec(
        "class Typed(StableDiffusionPipeline):\n"
        "    def __call__(self, prompt=None, prompt_embeds=None):\n"
        "        prompt_embeds, _ = self.encode_prompt(prompt)\n",
        names,
    )
    assert unknown_encoding(names["Typed"]) is not None


@pytest.mark.parametrize(
    ("family", "scale", "guided"),
    [
        ("sd1", 1.0, False),
        ("sd1", 1.5, True),
        ("zimage", 0.0, False),
        ("zimage", 0.5, True),
        ("lcm", 8.0, False),
    ],
)
def test_whether_a_call_is_guided_follows_the_pipelines_own_rule(family, scale, guided):
    assert is_guided(tiny_pipeline(family), {**tiny_call(family), "guidance_scale": scale}) is guided


def test_a_modular_pipeline_is_refused_in_one_line():
    from diffusers import ModularPipeline

    class Blocks(ModularPipeline):
        def __init__(self):
            pass

    for wrapped in (lambda pipe: Guard(pipe, [MockFilter(False)]), lambda pipe: Guard.wrap(pipe, "library")):
        with pytest.raises(UnsupportedError, match="Blocks is a modular pipeline"):
            wrapped(Blocks())
