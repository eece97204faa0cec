"""Reading and embedding on a Ray cluster: each actor has the encoders; the caller's process only commits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from steerclear.errors import ConfigError
from steerclear.library.prepare import Preprocessor, Skipped, embed_block
from steerclear.library.schema import Entry
from steerclear.library.sources import Source

if TYPE_CHECKING:
    from steerclear.encoders.base import Encoder


def embed_blocks(
    sources: Sequence[Source],
    *,
    preprocess: Preprocessor,
    encoders: Sequence[Encoder],
    batch: int,
    actors: int,
) -> Iterator[list[Entry | Skipped]]:
    """Reads and embeds the sources on a Ray cluster.

    It joins the cluster that the environment names (RAY_ADDRESS), else starts one on this machine.

    Args:
        sources: the pictures.
        preprocess: reads and decodes a source.
        encoders: all encoders of the library.
        batch: how many pictures a block has.
        actors: how many actors work at a time.

    Yields:
        The results of each block, in the order of the sources.

    Raises:
        ConfigError: if Ray is not installed.
    """
    ray = _ray()
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True  # the table is then the same as from one process
    context.enable_progress_bars = False
    blocks = [list(sources[start : start + batch]) for start in range(0, len(sources), batch)]
    if not blocks:
        return
    # one row per Ray block, so that no more than one of ours per actor waits in memory
    rows = ray.data.from_items(
        [{"block": _packed(block)} for block in blocks], override_num_blocks=len(blocks)
    )
    results = rows.map(
        _Embedder,
        concurrency=min(actors, len(blocks)),
        fn_constructor_args=(ray.put((preprocess, list(encoders))),),
    )
    for row in results.iter_rows():
        yield _unpacked(row["block"])


class _Embedder:
    """What one actor does: it keeps the encoders and embeds block after block."""

    def __init__(self, settings: Any) -> None:
        import ray

        self.preprocess, self.encoders = ray.get(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        pictures = [self.preprocess(source) for source in _unpacked(row["block"])]
        return {"block": _packed(embed_block(pictures, self.encoders))}


def _packed(value: Any) -> bytes:
    from ray import cloudpickle

    packed: bytes = cloudpickle.dumps(value)
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
