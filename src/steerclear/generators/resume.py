"""Going on from a noise level: how much noise that is, and how a pipeline is made to begin there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from steerclear.steering.instance import overridden


def scheduled(scheduler: Any) -> dict[str, Tensor]:
    """What a scheduler keeps of its schedule."""
    return {name: vars(scheduler)[name] for name in ("timesteps", "sigmas") if name in vars(scheduler)}


def noised(
    scheduler: Any, schedule: dict[str, Tensor], clean: Tensor, strength: float, generator: torch.Generator
) -> tuple[Tensor, int]:
    """A clean latent (1, …) at the level from which a share `strength` of the steps is left, and how many steps that skips.

    schedule: as a whole pass left it, since only the pipeline knows how it asked for it; the scheduler is put back there.
    """
    vars(scheduler).update(schedule)
    for index in ("_step_index", "_begin_index"):
        if hasattr(scheduler, index):
            setattr(scheduler, index, None)
    timesteps = schedule["timesteps"]
    if type(scheduler).__name__ == "DDPMWuerstchenScheduler":
        timesteps = timesteps[:-1]  # its last is where it ends, and no step
    skip = min(len(timesteps) - 1, max(0, round(len(timesteps) * (1 - strength))))
    if type(scheduler).__name__ == "PNDMScheduler" and skip == 1 and len(timesteps) > 2:
        skip = 2  # its first two entries after the start are the same step
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float32).to(clean)
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(clean, noise, timesteps[skip : skip + 1]), skip
    sigma = float(schedule["sigmas"][skip])  # flow matching: a straight line from the picture to the noise
    return (1 - sigma) * clean + sigma * noise, skip


@contextmanager
def starting_at(scheduler: Any, skip: int) -> Iterator[Callable[[], None]]:
    """Let the next call of the pipeline that owns this scheduler begin `skip` steps in.

    Yields what is to be called once it has begun.

    Its list of timesteps is cut; the scheduler gets the whole back, whose length multistep schedulers count by.
    """
    original_set = scheduler.set_timesteps
    original_begin = getattr(scheduler, "set_begin_index", lambda index: None)
    whole: Tensor | None = None

    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        nonlocal whole
        original_set(*args, **kwargs)
        whole = scheduler.timesteps
        kept = whole[skip:]
        if type(scheduler).__name__ == "PNDMScheduler" and skip > 0:
            kept = torch.cat([kept[:2], kept[1:]])  # its second call repeats the step that it begins with
        scheduler.timesteps = kept
        original_begin(skip)

    def set_begin_index(index: int = 0) -> None:
        original_begin(index + skip)  # some pipelines say themselves where they begin

    def arrived() -> None:
        if whole is not None:
            scheduler.timesteps = whole

    set_timesteps.__signature__ = inspect.signature(original_set)  # type: ignore[attr-defined]
    wrappers = {"set_timesteps": set_timesteps, "set_begin_index": set_begin_index}
    try:
        with overridden(
            scheduler, **{name: one for name, one in wrappers.items() if hasattr(scheduler, name)}
        ):
            yield arrived
    finally:
        if hasattr(scheduler, "_begin_index"):
            scheduler._begin_index = None
