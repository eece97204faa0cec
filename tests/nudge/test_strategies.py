"""Each strategy does what its name says, on tiny pipelines."""

from __future__ import annotations

import pytest
import torch

from steerclear.generators import PipelineGenerator
from steerclear.nudge import SteerTask
from steerclear.nudge.final_latent import FinalLatent
from steerclear.nudge.guidance_window import GuidanceWindow
from steerclear.nudge.ladder import STRATEGIES
from steerclear.nudge.magnitude import Magnitude
from steerclear.nudge.noise import Noise
from steerclear.nudge.objective import cosines
from steerclear.nudge.trajectory import Trajectory
from steerclear.testing import tiny_call, tiny_pipeline

GUIDED = {"guidance_scale": 5.0}


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def flagged(family="sd1", steps=4, **more):
    """A task whose first pass was flagged, pushed from its own final latent."""
    pipe = tiny_pipeline(family)
    kwargs = {k: v for k, v in {**tiny_call(family, steps=steps), **more}.items() if k != "prompt"}
    generator = PipelineGenerator(pipe)
    first = generator.run(generator=seeded(), prompt="a small fox", **kwargs)
    task = SteerTask(
        generator, "a small fox", 1, kwargs, first.start, first.latents, first.latents, ("an owl at night",)
    )
    return task, first


@pytest.mark.parametrize("family", ["sd1", "sd3"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_makes_another_picture_the_same_for_the_same_seed_and_counts_what_it_costs(family, name):
    task, first = flagged(family, **GUIDED)
    made = STRATEGIES[name]().apply(task, 7)
    assert made.image.tobytes() != first.images[0].tobytes()
    assert task.nfe >= made.made.nfe > 0
    again, _ = flagged(family, **GUIDED)
    assert STRATEGIES[name]().apply(again, 7).image.tobytes() == made.image.tobytes()
    assert all(p.requires_grad == q.requires_grad for p, q in zip(
        task.generator.denoiser.parameters(), tiny_pipeline(family).unet.parameters() if family == "sd1"
        else tiny_pipeline(family).transformer.parameters(), strict=True,
    ))  # fmt: skip


def test_nudged_noise_keeps_its_length_and_moves_the_prediction_away():
    task, _ = flagged()
    strategy = Noise(nudge_condition=False, iterations=3, limit=-1.0)
    before, _ = task.generator.predict(task.condition(), task.start, task.kwargs, seeded())
    made = strategy.apply(task, 7)
    after, _ = task.generator.predict(task.condition(), made.made.start, task.kwargs, seeded())
    torch.testing.assert_close(made.made.start.norm(), task.start.norm())
    assert cosines(after, task.unwanted) < cosines(before, task.unwanted)
    assert not torch.equal(made.made.start, task.start)


def test_a_backward_pass_costs_two_evaluations_for_each_it_goes_through():
    task, _ = flagged(**GUIDED)
    before = task.nfe
    condition = task.condition()
    with torch.no_grad():
        task.generator.predict(condition, task.start, task.kwargs, seeded())
    assert task.nfe - before == 2
    task.generator.predict(condition, task.start, task.kwargs, seeded(), steps=2)
    assert task.nfe - before == 2 + 3 * 4


def test_the_gradient_through_the_denoiser_is_charged_for_active_steps_alone():
    task, first = flagged(steps=4, **GUIDED)
    made = Trajectory(through=True, nudge_condition=False, window=0.5, limit=-2.0).apply(task, 7)
    assert made.stopped == "pushed at 2 of 4 steps"
    assert task.nfe == first.nfe + 2 * 4
    quiet, _ = flagged(steps=4, **GUIDED)
    made = Trajectory(through=True, nudge_condition=False, window=0.5, limit=2.0).apply(quiet, 7)
    assert made.image.tobytes() == first.images[0].tobytes()
    assert quiet.nfe == first.nfe


def test_guidance_that_never_sets_in_gives_the_picture_of_no_prompt():
    task, _ = flagged(**GUIDED)
    made = GuidanceWindow(delay=1.0).apply(task, 7)
    blank = task.generator.encode("", {**task.kwargs, "guidance_scale": 1.0})
    want = task.generator.regenerate(blank, task.start, {**task.kwargs, "guidance_scale": 1.0}, seeded(7))
    torch.testing.assert_close(made.made.latents, want.latents, rtol=1e-3, atol=1e-3)


def test_guidance_from_the_first_step_on_gives_the_plain_picture():
    task, first = flagged(**GUIDED)
    made = GuidanceWindow(delay=0.0).apply(task, 7)
    assert made.image.tobytes() == first.images[0].tobytes()


def test_without_guidance_there_is_no_window_and_no_magnitude():
    from steerclear.errors import UnsupportedError

    task, _ = flagged(guidance_scale=1.0)
    for strategy in (GuidanceWindow(), Magnitude()):
        with pytest.raises(UnsupportedError):
            strategy.apply(task, 7)


def test_the_magnitude_of_the_prompt_is_lowered_on_its_embedding():
    task, _ = flagged(**GUIDED)
    said = Magnitude(iterations=6, target=0.0).apply(task, 7).stopped
    before, after = (float(word) for word in said.removeprefix("magnitude ").split(" lowered to "))
    assert after < before


def test_a_descent_on_the_latent_ends_where_the_filters_pass_what_it_shows():
    looked = []

    def passes(latent):
        looked.append(latent)
        return True

    task, _ = flagged()
    task.passes = passes
    task.preferred_latents = torch.randn(task.clean.shape, generator=seeded())
    FinalLatent(stop=True, nudge_condition=False).apply(task, 7)
    assert len(looked) == 1
    FinalLatent(stop=False, nudge_condition=False).apply(task, 7)
    assert len(looked) == 1
