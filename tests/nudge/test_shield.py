"""A shield keeps every latent outside every ball, and moves nothing that is outside already."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steerclear.nudge.shield import distances, outside


def latents(seed, n=1):
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 1000), n=st.integers(1, 6), radius=st.floats(0.1, 1.3), mix=st.floats(0, 1))
def test_what_comes_out_is_outside_every_ball(seed, n, radius, mix):
    centres = latents(seed, n)
    inside = mix * centres[:1] + (1 - mix) * latents(seed + 1)
    assert float(distances(outside(inside, centres, radius), centres).min()) >= radius


@given(seed=st.integers(0, 1000))
def test_what_is_outside_already_stays_bit_for_bit_where_it_is(seed):
    far = latents(seed)
    assert torch.equal(outside(far, latents(seed + 1, 3), 0.5), far)


def test_a_latent_goes_no_farther_than_it_must():
    centre = latents(0)
    inside = centre + 0.1 * latents(1)
    moved = outside(inside, centre, 0.5)
    assert float(distances(moved, centre)) == pytest.approx(0.5, rel=0.01)
    assert torch.cosine_similarity((moved - centre).flatten(), (inside - centre).flatten(), dim=0) > 0.9999


def test_even_the_very_centre_is_left():
    assert float(distances(outside(latents(0), latents(0), 0.5), latents(0))) >= 0.5


def test_a_latent_that_is_not_finite_is_refused():
    with pytest.raises(ArithmeticError, match="not finite"):
        outside(torch.full((1, 4, 8, 8), math.nan), latents(0), 0.5)
