"""Resuming from a noise level: how much noise that is, and how a pipeline is made to begin there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from steerclear.steering.instance import overridden


def schedule_of(scheduler: Any) -> dict[str, Tensor]:
    """The scheduler's `timesteps` and `sigmas`, those of the two that it has."""
    return {name: vars(scheduler)[name] for name in ("timesteps", "sigmas") if name in vars(scheduler)}


def add_noise(
    scheduler: Any, clean: Tensor, *, schedule: dict[str, Tensor], strength: float, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Noise a clean latent to the level from which a share of the steps is left.

    Args:
        scheduler: is set back to `schedule`.
        clean: (1, …) the clean latent.
        schedule: as a whole run left it, by `schedule_of`; only the pipeline knows with which arguments it
            was set.
        strength: share of the steps that are left, in (0, 1].
        generator: draws the noise.

    Returns:
        The noisy latent, and how many steps are skipped.
    """
    vars(scheduler).update(schedule)
    for index in ("_step_index", "_begin_index"):
        if hasattr(scheduler, index):
            setattr(scheduler, index, None)
    timesteps = schedule["timesteps"]
    if type(scheduler).__name__ == "DDPMWuerstchenScheduler":
        timesteps = timesteps[:-1]  # its last timestep is the end, not a step
    skip = min(len(timesteps) - 1, max(0, round(len(timesteps) * (1 - strength))))
    if type(scheduler).__name__ == "PNDMScheduler" and skip == 1 and len(timesteps) > 2:
        skip = 2  # its second and third entries are the same step
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float32).to(clean)
    if hasattr(scheduler, "add_noise"):
        return scheduler.add_noise(clean, noise, timesteps[skip : skip + 1]), skip
    sigma = float(schedule["sigmas"][skip])  # flow matching: a straight line from the picture to the noise
    return (1 - sigma) * clean + sigma * noise, skip


@contextmanager
def starting_at(scheduler: Any, skip: int) -> Iterator[Callable[[], None]]:
    """Let the next call of the scheduler's pipeline begin `skip` steps in.

    The pipeline finds its list of timesteps cut. Multistep schedulers count by the length of the whole list,
    so it must be restored once the pipeline has read the cut one.

    Args:
        scheduler: the pipeline's own.
        skip: steps left out.

    Yields:
        A callback that restores the whole list; call it at the first step.
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
        original_begin(index + skip)  # some pipelines set the index themselves

    def restore_timesteps() -> None:
        if whole is not None:
            scheduler.timesteps = whole

    set_timesteps.__signature__ = inspect.signature(original_set)  # type: ignore[attr-defined]
    wrappers = {"set_timesteps": set_timesteps, "set_begin_index": set_begin_index}
    try:
        methods = {name: wrapper for name, wrapper in wrappers.items() if hasattr(scheduler, name)}
        with overridden(scheduler, **methods):
            yield restore_timesteps
    finally:
        if hasattr(scheduler, "_begin_index"):
            scheduler._begin_index = None
