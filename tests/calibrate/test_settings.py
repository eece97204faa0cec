"""Clean pictures are drawn at varied settings: evenly, by their number, as far as the pipeline takes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from steerclear.calibrate import Grid, Settings, draw_picture
from steerclear.errors import InputError
from steerclear.testing import tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline("sd1")


@pytest.fixture
def grid(pipe):
    return Grid.around(pipe, steps=25, guidance=7.5)


def test_the_first_picture_is_drawn_at_the_settings_that_were_given(grid):
    assert grid.draw(0) == Settings(steps=25, guidance=7.5)


def test_the_grid_lies_around_what_was_given(grid):
    assert grid.steps == (25, 12, 10)
    assert grid.guidance == (7.5, 3.75, 15)
    assert grid.sizes == (None, (32, 64), (64, 32), (128, 128))
    assert len(grid.negative_prompts) == 2
    assert "EulerDiscreteScheduler" in grid.schedulers


def test_every_value_of_an_axis_comes_about_equally_often(grid):
    drawn = [grid.draw(number) for number in range(120)]
    for field in fields(Settings):
        values = Counter(getattr(settings, field.name) for settings in drawn)
        assert len(values) > 1, field.name
        assert max(values.values()) <= min(values.values()) + 5, field.name


def test_every_pair_of_sizes_and_samplers_comes_up(grid):
    pairs = {(s.size, s.scheduler) for s in map(grid.draw, range(120))}
    assert len(pairs) == len(grid.sizes) * len(grid.schedulers)


def test_few_steps_stay_as_they_are(pipe):
    assert Grid.around(pipe, steps=2, guidance=7.5).steps == (2,)


def test_without_guidance_neither_it_nor_the_negative_prompt_varies(pipe):
    grid = Grid.around(pipe, steps=25, guidance=1.0)
    assert grid.guidance == (1.0,)
    assert grid.negative_prompts == (None,)


def test_a_distilled_model_keeps_its_sampler():
    assert Grid.around(tiny_pipeline("lcm"), steps=4, guidance=8.5).schedulers == (None,)


def test_a_flow_matching_model_is_not_given_a_sampler_of_another_kind():
    assert Grid.around(tiny_pipeline("sd3"), steps=8, guidance=5).schedulers == (None,)


def test_a_picture_has_the_size_that_was_drawn_and_the_pipeline_keeps_its_scheduler(pipe):
    scheduler = pipe.scheduler
    settings = Settings(
        2, guidance=4.0, size=(32, 64), negative_prompt="blurry", scheduler="EulerDiscreteScheduler"
    )
    picture = draw_picture(pipe, prompt="a fox", seed=0, settings=settings)
    assert picture.size == (32, 64)
    assert pipe.scheduler is scheduler
    again = draw_picture(pipe, prompt="a fox", seed=0, settings=settings)
    assert np.array_equal(picture, again)
    without = draw_picture(
        pipe,
        prompt="a fox",
        seed=0,
        settings=Settings(
            2, guidance=4.0, size=(32, 64), negative_prompt=None, scheduler="EulerDiscreteScheduler"
        ),
    )
    assert not np.array_equal(picture, without)


def test_settings_that_the_pipeline_cannot_draw_are_named_with_the_way_out(pipe):
    scheduler = pipe.scheduler
    with pytest.raises(InputError, match=r"cannot draw 'a fox' at .* 33 × 64.*try --settings fixed"):
        draw_picture(
            pipe,
            prompt="a fox",
            seed=0,
            settings=Settings(2, 4.0, (33, 64), scheduler="EulerDiscreteScheduler"),
        )
    assert pipe.scheduler is scheduler
