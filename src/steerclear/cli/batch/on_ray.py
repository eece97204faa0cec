"""A batch on a Ray cluster: each actor has a guard, and the caller hands one part after the other to it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from steerclear.cli.batch.outputs import Outputs
from steerclear.cli.batch.parts import Done, Maker, Plan
from steerclear.errors import ConfigError, DeviceLostError, SteerclearError

MOST_TRIES = 3  # of one part: what ends its actor as often would end the next one as well


def make_on_ray(plan: Plan, outputs: Outputs, waiting: Sequence[int], actors: int) -> Iterator[Done]:
    """Make parts with actors; where one dies, another takes its place, and its part is begun again.

    It joins the cluster that the environment names (RAY_ADDRESS), else starts one on this machine. An actor
    holds a CPU, and with `--device cuda` a GPU as well.

    Args:
        plan: the batch.
        outputs: where it goes.
        waiting: the parts to make.
        actors: how many work at a time.

    Yields:
        Each part once it is recorded, in the order in which they are.

    Raises:
        ConfigError: if Ray is not installed, or a part ended its actor MOST_TRIES times.
        SteerclearError: what a guard raises.
    """
    ray = _ray()
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    gpus = 1 if plan.recipe.device.startswith("cuda") else 0
    actor_class = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(_Actor)
    shared = ray.put(plan)
    queue, tries = deque(waiting), Counter[int]()
    running: dict[Any, tuple[Any, int]] = {}

    def begin(actor: Any) -> None:
        part = queue.popleft()
        tries[part] += 1
        running[actor.make.remote(part)] = (actor, part)

    for _ in range(min(actors, len(waiting))):
        begin(actor_class.remote(shared, outputs))
    try:
        while running:
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            actor, part = running.pop(ready)
            try:
                done = ray.get(ready)
            except (ray.exceptions.RayActorError, ray.exceptions.RayTaskError) as error:
                _pass_on(error)
                if tries[part] >= MOST_TRIES:
                    raise ConfigError(
                        f"part {part} (from row {plan.rows_of(part).start} on) has ended its actor "
                        f"{MOST_TRIES} times: {str(error).splitlines()[-1]}; look at that machine's memory "
                        "and device"
                    ) from error
                queue.append(part)
                ray.kill(actor)
                actor = actor_class.remote(shared, outputs)
            else:
                yield done
            if queue:
                begin(actor)
    finally:
        for actor, _ in running.values():
            ray.kill(actor)


class _Actor:
    """What one actor does: it keeps a guard and makes part after part."""

    def __init__(self, plan: Plan, outputs: Outputs) -> None:
        self._maker = Maker(plan, outputs)

    def make(self, part: int) -> Done:
        return self._maker.make(part)


def _pass_on(error: Any) -> None:
    """Raise what a guard said; an actor that has died or lost its device is tried again instead."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, SteerclearError) and not isinstance(cause, DeviceLostError):
        raise cause from error
    if cause is not None and not isinstance(cause, DeviceLostError):
        raise error


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError("a batch on a cluster needs Ray; run: pip install 'steerclear[ray]'") from error
    return ray
