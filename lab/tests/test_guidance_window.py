"""The strategy that lets guidance begin late, on a tiny pipeline."""

from __future__ import annotations

import pytest
import torch

from steerclear.errors import UnsupportedError
from steerclear.generators import PipelineRunner
from steerclear.nudge import SteerTask
from steerclear.testing import tiny_call, tiny_pipeline
from steerclear_lab.guidance_window import GuidanceWindow


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def flagged(guidance_scale=5.0):
    """A task whose first pass was flagged, and that pass."""
    kwargs = {**tiny_call("sd1", steps=4), "guidance_scale": guidance_scale}
    prompt = kwargs.pop("prompt")
    runner = PipelineRunner(tiny_pipeline("sd1"))
    first = runner.run(generator=seeded(), prompt=prompt, **kwargs)
    task = SteerTask(
        runner=runner,
        prompt=prompt,
        seed=1,
        kwargs=kwargs,
        start=first.start,
        clean=first.latents,
        unwanted=first.latents,
    )
    return task, first


def test_guidance_that_never_sets_in_gives_the_picture_of_no_prompt():
    task, _ = flagged()
    candidate = GuidanceWindow(delay=1.0).apply(task, 7)
    unguided = {**task.kwargs, "guidance_scale": 1.0}
    blank = task.runner.encode("", unguided)
    want = task.runner.regenerate(blank, task.start, kwargs=unguided, generator=seeded(7))
    torch.testing.assert_close(candidate.run.latents, want.latents, rtol=1e-3, atol=1e-3)


def test_guidance_from_the_first_step_on_gives_the_plain_picture():
    task, first = flagged()
    candidate = GuidanceWindow(delay=0.0).apply(task, 7)
    assert candidate.image.tobytes() == first.images[0].tobytes()


def test_without_guidance_there_is_no_window():
    task, _ = flagged(guidance_scale=1.0)
    with pytest.raises(UnsupportedError):
        GuidanceWindow().apply(task, 7)
