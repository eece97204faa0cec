"""Reading and embedding on a Ray cluster: a pool of actors, each with the encoders; the caller's process only commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from steerclear.errors import ConfigError
from steerclear.library.ingest import Prepare, Skipped, embedded
from steerclear.library.schema import Entry
from steerclear.library.sources import Source

if TYPE_CHECKING:
    from steerclear.encoders.base import Encoder


def blocks(
    sources: Sequence[Source], prepare: Prepare, encoders: Sequence[Encoder], batch: int, actors: int
) -> Iterator[list[Entry | Skipped]]:
    """What became of the sources, `batch` at a time and in order, from `actors` actors.

    Joins the cluster that the environment names (RAY_ADDRESS), else starts one on this machine. Needs the extra `ray`.
    """
    ray = _ray()
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True  # the same table as a run in one process makes
    context.enable_progress_bars = False
    parts = [list(sources[i : i + batch]) for i in range(0, len(sources), batch)]
    if not parts:
        return
    # one part a block, so that no more than one part a task waits in memory
    found = ray.data.from_items([{"part": _packed(part)} for part in parts], override_num_blocks=len(parts)).map(
        _Embedder, concurrency=min(actors, len(parts)), fn_constructor_args=(ray.put((prepare, list(encoders))),),
    )  # fmt: skip
    for row in found.iter_rows():
        yield _unpacked(row["block"])


class _Embedder:
    """One actor."""

    def __init__(self, settings: Any) -> None:
        import ray

        self.prepare, self.encoders = ray.get(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"block": _packed(embedded([self.prepare(s) for s in _unpacked(row["part"])], self.encoders))}


def _packed(thing: Any) -> bytes:
    from ray import cloudpickle

    packed: bytes = cloudpickle.dumps(thing)
    return packed


def _unpacked(packed: bytes) -> Any:
    from ray import cloudpickle

    return cloudpickle.loads(packed)


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ConfigError("embedding on a cluster needs Ray; run: pip install 'steerclear[ray]'") from error
    return ray
