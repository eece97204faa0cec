"""Each strategy does what its name says, on tiny pipelines."""

from __future__ import annotations

import pytest
import torch

from steerclear import plugins
from steerclear.errors import UnsupportedError
from steerclear.generators import PipelineRunner
from steerclear.generators.conditions import EMBEDS
from steerclear.nudge import SteerTask
from steerclear.nudge.base import CopyReturned
from steerclear.nudge.condition import HOLD, Interpolate, interpolated, nudged_condition, weights_at
from steerclear.nudge.final_latent import FinalLatent
from steerclear.nudge.ladder import strategies
from steerclear.nudge.magnitude import Magnitude
from steerclear.nudge.noise import Noise
from steerclear.nudge.objective import descend
from steerclear.nudge.space import EncoderSpace, objective
from steerclear.nudge.trajectory import Trajectory
from steerclear.pixels import cosines
from steerclear.steering import codec_for, fit_preview
from steerclear.testing import FakeEncoder, tiny_call, tiny_pipeline

GUIDED = {"guidance_scale": 5.0}


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def flagged(family="sd1", steps=4, **more):
    """A task whose first pass was flagged, pushed from its own final latent."""
    pipe = tiny_pipeline(family)
    kwargs = {k: v for k, v in {**tiny_call(family, steps=steps), **more}.items() if k != "prompt"}
    runner = PipelineRunner(pipe)
    first = runner.run(generator=seeded(), prompt="a small fox", **kwargs)
    task = SteerTask(
        runner=runner,
        prompt="a small fox",
        seed=1,
        kwargs=kwargs,
        start=first.start,
        clean=first.latents,
        unwanted=first.latents,
        preferred_texts=("an owl at night",),
    )
    pictures = torch.rand(3, 3, 64, 64, generator=seeded())
    looks = {"decode": codec_for(pipe).decode, "preview": fit_preview(pipe, pictures)}
    task.spaces = lambda name: EncoderSpace(FakeEncoder(), looks[name])
    return task, first


@pytest.mark.parametrize("family", ["sd1", pytest.param("sd3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", plugins.names("strategy"))
def test_a_strategy_makes_another_picture_the_same_for_the_same_seed_and_counts_what_it_costs(family, name):
    task, first = flagged(family, **GUIDED)
    candidate = strategies([name])[0].apply(task, 7)
    assert candidate.image.tobytes() != first.images[0].tobytes()
    assert task.nfe >= candidate.run.nfe > 0
    again, _ = flagged(family, **GUIDED)
    assert strategies([name])[0].apply(again, 7).image.tobytes() == candidate.image.tobytes()
    fresh = PipelineRunner(tiny_pipeline(family)).denoiser
    parameters = zip(task.runner.denoiser.parameters(), fresh.parameters(), strict=True)
    assert all(p.requires_grad == q.requires_grad for p, q in parameters)


def test_nudged_noise_keeps_its_length_and_moves_the_prediction_away():
    task, _ = flagged()
    strategy = Noise(nudge_condition=False, iterations=3, limit=-1.0)
    before, _ = task.runner.predict(task.condition(), task.start, kwargs=task.kwargs, generator=seeded())
    candidate = strategy.apply(task, 7)
    after, _ = task.runner.predict(
        task.condition(), candidate.run.start, kwargs=task.kwargs, generator=seeded()
    )
    torch.testing.assert_close(candidate.run.start.norm(), task.start.norm())
    assert cosines(after, task.unwanted) < cosines(before, task.unwanted)
    assert not torch.equal(candidate.run.start, task.start)


def test_a_backward_pass_costs_two_evaluations_for_each_it_goes_through():
    task, _ = flagged(**GUIDED)
    before = task.nfe
    condition = task.condition()
    with torch.no_grad():
        task.runner.predict(condition, task.start, kwargs=task.kwargs, generator=seeded())
    assert task.nfe - before == 2
    task.runner.predict(condition, task.start, kwargs=task.kwargs, generator=seeded(), steps=2)
    assert task.nfe - before == 2 + 3 * 4


def test_the_gradient_through_the_denoiser_is_charged_for_active_steps_alone():
    task, first = flagged(steps=4, **GUIDED)
    candidate = Trajectory(through=True, nudge_condition=False, window=0.5, limit=-2.0).apply(task, 7)
    assert candidate.stopped == "pushed at 2 of 4 steps"
    assert task.nfe == first.nfe + 2 * 4
    quiet, _ = flagged(steps=4, **GUIDED)
    candidate = Trajectory(through=True, nudge_condition=False, window=0.5, limit=2.0).apply(quiet, 7)
    assert candidate.image.tobytes() == first.images[0].tobytes()
    assert quiet.nfe == first.nfe


def test_without_guidance_there_is_no_magnitude():
    task, _ = flagged(guidance_scale=1.0)
    with pytest.raises(UnsupportedError):
        Magnitude().apply(task, 7)


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


@pytest.mark.parametrize("space", ["preview", "decode"])
@pytest.mark.parametrize("family", ["sd1", "sd3", "flux"])
def test_a_descent_in_an_encoders_space_pushes_and_pulls_there(family, space):
    task, first = flagged(family)
    wanted, unwanted = torch.randn(2, *first.latents.shape, generator=seeded()).to(first.latents)
    task.unwanted = first.latents + unwanted
    E = task.spaces(space)
    pushed = descend(
        objective(task, space, wanted, alpha=0.0, beta=1.0, gamma=0.0), task.clean, iterations=5
    ).latent
    pulled = descend(
        objective(task, space, wanted, alpha=1.0, beta=0.0, gamma=0.0), task.clean, iterations=5
    ).latent
    assert cosines(E(pushed), E(task.unwanted)) < cosines(E(task.clean), E(task.unwanted))
    assert cosines(E(pulled), E(wanted)) > cosines(E(task.clean), E(wanted))


@pytest.mark.parametrize("space", ["preview", "decode"])
@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("family", ["sd1", "sd3"])
def test_a_prediction_is_pushed_in_an_encoders_space_with_and_without_the_denoiser(family, through, space):
    def likeness(pushed_in, limit):
        """The cosine to what is unwanted, in the encoder's space, after a push in another space."""
        task, _ = flagged(family, **GUIDED)
        strategy = Trajectory(nudge_condition=False, through=through, limit=limit, space=pushed_in)
        candidate, E = strategy.apply(task, 7).run, task.spaces(space)
        return float(cosines(E(candidate.latents), E(task.unwanted)).detach())

    unpushed, pushed, pushed_in_the_latent = (
        likeness(space, limit=2.0),
        likeness(space, limit=-2.0),
        likeness("latent", limit=-2.0),
    )
    assert unpushed == pytest.approx(1)
    assert pushed < 0.95
    assert pushed < pushed_in_the_latent - 0.1


def test_without_an_encoder_there_is_no_space_of_one():
    task, _ = flagged()
    task.spaces = None
    with pytest.raises(UnsupportedError):
        FinalLatent(space="decode").apply(task, 7)


@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(0.5, 1.0, 1.0), (1.0, 0.2, 1.0), (1.0, 1.0, 0.5)])
def test_the_weights_of_the_final_latent_hold_for_its_condition_too(alpha, beta, gamma):
    def resumed(weights):
        task, _ = flagged(**GUIDED)
        condition = nudged_condition(task, alpha=weights[0], beta=weights[1], gamma=HOLD * weights[2])
        return task.runner.resume(
            task.clean, 0.7, condition=condition, kwargs=task.kwargs, generator=seeded(7)
        ).latents

    task, _ = flagged(**GUIDED)
    final_latent = FinalLatent(alpha=alpha, beta=beta, gamma=gamma, iterations=0)  # which leaves the latent
    assert torch.equal(final_latent.apply(task, 7).run.latents, resumed((alpha, beta, gamma)))
    assert not torch.equal(resumed((alpha, beta, gamma)), resumed((1.0, 1.0, 1.0)))


def test_a_point_of_the_line_is_where_j_has_its_minimum():
    task, _ = flagged()
    requested, preferred = task.condition(), task.condition("an owl at night")
    for t in (0.5, 0.8, 1.0, 1.3):
        condition = nudged_condition(task, gamma=weights_at(t))
        point = interpolated(requested, preferred, t)
        assert cosines(condition[EMBEDS], point[EMBEDS]).item() > 0.999
    torch.testing.assert_close(interpolated(requested, preferred, 1.0)[EMBEDS], preferred[EMBEDS])


def test_the_nearest_point_whose_first_prediction_is_safe_is_taken_and_beyond_it_nothing_is_looked_at(
    monkeypatch,
):
    risks = iter([0.9, 0.1])
    monkeypatch.setattr("steerclear.nudge.condition.condition_risk", lambda task, condition: next(risks))
    task, _ = flagged(**GUIDED)
    assert "80% of the way to 'an owl at night'" in Interpolate(points=(0.6, 0.8, 1.0)).apply(task, 7).stopped
    risks = iter([0.9, 0.9])
    task, _ = flagged(**GUIDED)
    assert "100% of the way" in Interpolate(points=(0.6, 0.8, 1.0)).apply(task, 7).stopped


def test_a_pass_in_which_the_copy_comes_back_is_left_there():
    task, first = flagged(steps=8, **GUIDED)
    task.shows = lambda step, denoised: "fox" if step == 2 else None
    before = task.nfe
    with pytest.raises(CopyReturned, match="fox came back at step 3"):
        strategies(["rewrite"])[0].apply(task, 7)
    assert task.nfe - before == 3 * 2
    assert first.nfe == 8 * 2
    task.shows = lambda step, denoised: "fox" if step > 4 else None  # too late to spare anything
    assert strategies(["rewrite"])[0].apply(task, 7).image
