"""The unguided prediction is told from the guided one, whatever the order of the halves and the sign."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steerclear.generators import PipelineRunner
from steerclear.generators.guidance import guidance_pair, magnitude, unguided
from steerclear.testing import tiny_call, tiny_pipeline


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step(guided, channels=4):
    return SimpleNamespace(sample=guided[:, :channels], model_output=guided)


@given(
    seed=st.integers(0, 1000),
    scale=st.floats(1.1, 20),
    sign=st.sampled_from([1, -1]),
    swapped=st.booleans(),
    rows=st.integers(1, 3),
)
def test_the_half_without_the_prompt_is_found_in_any_order_and_sign(seed, scale, sign, swapped, rows):
    u, c = draw(seed, rows, 4, 3, 3), draw(seed + 1, rows, 4, 3, 3)
    guided = sign * (u + scale * (c - u))
    pair = (c, u) if swapped else (u, c)
    torch.testing.assert_close(unguided(pair, step(guided)), sign * u)


def test_a_learned_variance_stays_the_guided_ones():
    u, c, variance = draw(0, 1, 4, 3, 3), draw(1, 1, 4, 3, 3), draw(2, 1, 4, 3, 3)
    guided = torch.cat([u + 3 * (c - u), variance], dim=1)
    bare = unguided((u, c), step(guided))
    torch.testing.assert_close(bare, torch.cat([u, variance], dim=1))


def test_a_prediction_that_no_guidance_explains_is_not_guessed():
    u, c = draw(0, 1, 4, 3, 3), draw(1, 1, 4, 3, 3)
    assert unguided((u, c), step(u + 3 * (c - u) + 0.2 * draw(2, 1, 4, 3, 3))) is None
    assert unguided(None, step(u)) is None


def test_outputs_that_are_no_pair_per_image_are_no_halves():
    sample = torch.zeros(2, 4, 3, 3)
    assert guidance_pair([draw(0, 2, 4, 3, 3)], sample) is None
    assert guidance_pair([[draw(0, 4, 3, 3)]], sample) is None
    first, second = guidance_pair([draw(0, 2, 8, 3, 3), draw(1, 2, 8, 3, 3)], sample)
    assert first.shape == second.shape == sample.shape
    assert magnitude((first, first)).tolist() == [0, 0]


def first_step(family, guidance_scale):
    """What the model put out at its first step with guidance and the half of it without the prompt."""
    runner, seen = PipelineRunner(tiny_pipeline(family)), []

    def look(step):
        seen.append((step.model_output, unguided(runner.guidance_pair(step), step)))

    call = {**tiny_call(family, steps=1), "guidance_scale": guidance_scale}
    runner.run(look, generator=torch.Generator().manual_seed(0), **call)
    return seen[0]


@pytest.mark.parametrize("family", ["sd1", "sdxl", "sd3", "pixart", "sana"])
def test_every_guided_family_says_what_it_would_predict_without_the_prompt(family):
    guided, bare = first_step(family, 5.0)
    prompted, nothing = first_step(family, 1.0)  # the pipeline asks for no other half then
    assert nothing is None
    assert bare.shape == guided.shape
    channels = slice(0, 4)  # PixArt's others are a variance
    expected = ((5 * prompted - guided) / 4)[:, channels]  # guided = u + 5 (c - u)
    torch.testing.assert_close(bare[:, channels], expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(expected, prompted[:, channels], rtol=1e-3, atol=1e-3)


def test_a_family_whose_predictions_come_as_lists_is_not_guessed():
    _, bare = first_step("zimage", 5.0)
    assert bare is None
