"""J pulls, pushes and stays near; its descent never diverges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steerclear.errors import ConfigError
from steerclear.nudge.objective import OPTIMISERS, Objective, descend, minimise
from steerclear.pixels import cosines


def latent(seed, *shape):
    return torch.randn(*(shape or (1, 4, 8, 8)), generator=torch.Generator().manual_seed(seed))


def test_the_objective_is_the_papers_formula():
    x, d, u = latent(0), latent(1, 3, 4, 8, 8), latent(2, 2, 4, 8, 8)
    origin = latent(3)
    expected = (
        -2 * cosines(x, d).mean()
        + 3 * cosines(x, u).mean()
        + 0.5 * ((x - origin).norm() / origin.norm()) ** 2
    )
    assert torch.allclose(Objective(d, u, alpha=2, beta=3, gamma=0.5)(x, origin), expected)


@given(seed=st.integers(0, 1000))
def test_minimising_comes_nearer_to_the_preferred_and_leaves_the_unwanted(seed):
    origin, wanted, unwanted = latent(seed), latent(seed + 1), latent(seed + 2)
    moved = minimise(Objective(wanted, unwanted, gamma=0.1), origin, iterations=15)
    assert cosines(moved, wanted) > cosines(origin, wanted)
    assert cosines(moved, unwanted) < cosines(origin, unwanted)


@given(seed=st.integers(0, 1000), gamma=st.floats(0, 10), optimiser=st.sampled_from(OPTIMISERS))
def test_the_value_never_rises(seed, gamma, optimiser):
    origin = latent(seed)
    objective = Objective(latent(seed + 1), latent(seed + 2), gamma=gamma)
    moved = minimise(objective, origin, iterations=10, optimiser=optimiser)
    assert objective(moved, origin) <= objective(origin, origin) + 1e-6


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_the_length_of_a_latent_is_kept(optimiser):
    moved = minimise(Objective(latent(1), latent(2)), latent(0), optimiser=optimiser)
    assert moved.norm() == pytest.approx(float(latent(0).norm()), rel=1e-4)
    assert not torch.equal(moved, latent(0))


def test_a_heavy_stay_near_term_keeps_the_latent_where_it_was():
    origin = latent(0)
    moved = minimise(Objective(latent(1), None, gamma=100.0), origin)
    assert (moved - origin).norm() < 0.01 * origin.norm()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_steps_are_relative_so_the_scale_of_a_latent_does_not_matter(scale, optimiser):
    objective = Objective(latent(1), latent(2), gamma=0.1)
    small = minimise(objective, latent(0), iterations=8, optimiser=optimiser)
    scaled = minimise(objective, latent(0) * scale, iterations=8, optimiser=optimiser)
    assert torch.allclose(small, scaled / scale, rtol=1e-3, atol=1e-4)


def test_a_latent_that_is_not_finite_is_returned_rather_than_chased():
    broken = torch.full((1, 4, 8, 8), float("nan"))
    assert torch.isnan(minimise(Objective(latent(1), None), broken)).all()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_descent_says_how_it_went(optimiser):
    bowl = Objective(latent(1), None, gamma=0.0)
    descent = descend(bowl, latent(0), iterations=6, optimiser=optimiser)
    assert (descent.iterations, descent.why) == (6, "iterations")
    first = descend(bowl, latent(0), iterations=6, optimiser=optimiser, enough=lambda moved: True)
    assert (first.iterations, first.why) == (1, "enough")
    there = descend(bowl, latent(1), optimiser=optimiser)
    assert there.why == "flat"
    broken = descend(lambda x, origin: (x * float("nan")).sum(), latent(0), optimiser=optimiser)
    assert (broken.iterations, broken.why) == (0, "not finite")
    assert torch.equal(broken.latent, latent(0))


def test_too_long_a_step_is_halved_and_counted():
    descent = descend(Objective(latent(1), None, gamma=5.0), latent(0), rate=3.0, iterations=5)
    assert descent.halved > 0
    assert descent.iterations > 0


def test_adams_first_step_is_as_long_as_the_plain_one():
    objective = Objective(latent(1), latent(2), gamma=0.0)
    steps = [descend(objective, latent(0), iterations=1, rate=0.01, optimiser=o).latent for o in OPTIMISERS]
    lengths = [float((moved - latent(0)).norm() / latent(0).norm()) for moved in steps]
    assert lengths == pytest.approx([0.01, 0.01], rel=0.02)


def test_an_unknown_optimiser_is_refused_by_name():
    with pytest.raises(ConfigError, match="sgd"):
        minimise(Objective(latent(1), None), latent(0), optimiser="sgd")


@given(seed=st.integers(0, 1000), beta=st.floats(0, 2), gamma=st.floats(0, 2))
def test_at_constant_length_pushing_from_the_start_and_staying_there_are_one_force(seed, beta, gamma):
    origin, wanted = latent(seed), latent(seed + 1)
    both = Objective(wanted, origin, beta=beta, gamma=gamma)
    joined = Objective(wanted, origin, beta=beta - 2 * gamma, gamma=0.0)
    turned = [x * (origin.norm() / x.norm()) for x in (latent(seed + 2), origin + latent(seed + 3))]
    first, second = (float(both(x, origin) - joined(x, origin)) for x in turned)
    assert first == pytest.approx(second, abs=1e-4)
    assert first == pytest.approx(2 * gamma, abs=1e-4)
