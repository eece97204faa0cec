"""What the pictures of ordinary prompts tell about a model: how similar they are to protected ones, and which
words prompts share.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from steerclear.generators import LeaveEarly, PipelineRunner
from steerclear.nudge.base import OrdinaryPrompts, SteerTask
from steerclear.nudge.screen import usual_similarities
from steerclear.pipelines import latent_like
from steerclear.protected import Protected, common_words
from steerclear.steering import Step

MOST_ASKED = 48  # prompts that are measured, at even distances in the list
MOST_KEPT = 2000  # prompts that are kept as alternatives
SHARED = 0.1  # share of prompts with a word from which it counts as generic
# guidance scales that are measured; the median in between is interpolated
SCALES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5, 10.0, 15.0)


def ordinary_prompts(
    pipe: Any, protected: Protected, prompts: Sequence[str], clear: Collection[str], *, steps: int
) -> OrdinaryPrompts:
    """What a guard of this pipeline needs to know of ordinary prompts.

    Costs one evaluation for each of at most MOST_ASKED prompts, and one more.

    Args:
        pipe: a diffusers pipeline that takes prompts.
        protected: the library's items.
        prompts: that ask for nothing protected.
        clear: those of which a picture came out clear.
        steps: denoising steps, which decide the noise level of the first prediction.
    """
    distinct = list(dict.fromkeys(prompts))
    count = min(MOST_ASKED, len(distinct))
    asked = [distinct[i * len(distinct) // count] for i in range(count)]
    task = _task(pipe, protected=protected, prompt=asked[0], steps=steps)
    return OrdinaryPrompts(
        similarity=tuple(zip(SCALES, usual_similarities(task, asked, SCALES), strict=True)),
        generic=common_words(distinct, SHARED),
        clear=tuple(prompt for prompt in distinct if prompt in clear)[:MOST_KEPT],
    )


def note_of(ordinary: OrdinaryPrompts) -> dict[str, Any]:
    """The part that a library keeps, as JSON."""
    return {
        "similarity": [[scale, round(value, 4)] for scale, value in ordinary.similarity],
        "generic": sorted(ordinary.generic),
        "clear": list(ordinary.clear),
    }


def _task(pipe: Any, protected: Protected, prompt: str, steps: int) -> SteerTask:
    """A task that begins with the pipeline's own noise, as if the picture of this prompt had been flagged."""
    runner = PipelineRunner(pipe)
    kwargs: dict[str, Any] = {"num_inference_steps": steps}

    def leave(step: Step) -> Tensor | None:
        raise LeaveEarly

    first = runner.run(leave, prompt=prompt, generator=torch.Generator().manual_seed(0), **kwargs)
    assert first.start is not None
    ids = list(protected.pictures)
    return SteerTask(
        runner=runner,
        prompt=prompt,
        seed=0,
        kwargs=kwargs,
        start=first.start,
        clean=first.start,
        unwanted=protected.latents(ids[:1], first.start),
        protected=lambda: protected.latents(ids, latent_like(pipe).to(first.start)),
    )
