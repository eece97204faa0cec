"""Adding pictures to a library: read, decode and embed in batches, and commit each batch before the next."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from steerclear.errors import InputError, LibraryError
from steerclear.library.files import Reach
from steerclear.library.images import MAX_PIXELS
from steerclear.library.prepare import Prepared, Preprocessor, Skipped, embed_block
from steerclear.library.schema import POLICIES, Entry, Inserted, Policy
from steerclear.library.sources import NEAR, Source, discover

if TYPE_CHECKING:
    from steerclear.encoders.base import Encoder
    from steerclear.library.store import Library


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of every picture.

    Attributes:
        added: the ids of the new items.
        skipped_duplicates: sources that are exact copies of a picture in the library.
        failed: (source, reason) of the pictures that could not be added.
        skipped: kind → how many files of folders and shards are no pictures, or hidden.
    """

    added: list[str] = field(default_factory=list)
    skipped_duplicates: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The state after a commit.

    Attributes:
        done: how many of the pictures are finished.
        total: how many pictures there are.
        added: how many are safe on disk.
        duplicates: how many were in the library already.
        failed: how many could not be added.
    """

    done: int
    total: int
    added: int
    duplicates: int
    failed: int


def add(
    library: Library,
    paths: Iterable[str | Path | Source] | str | Path,
    encoders: Sequence[Encoder],
    *,
    owner: str = "",
    licence: str = "",
    note: str = "",
    tags: Sequence[str] = (),
    policy: Policy = "steer",
    captions: Mapping[str, str] | None = None,
    batch: int = 64,
    workers: int | None = None,
    ray_actors: int = 0,
    max_pixels: int = MAX_PIXELS,
    reach: Reach = NEAR,
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Adds pictures to a library; a bad one is reported and does not stop the others.

    If the process is killed, the library holds every batch that was committed, and the same call again does
    the rest.

    Args:
        library: where they go.
        paths: files, folders, globs, lists, shards; see `sources.discover`.
        encoders: all the encoders that the library was built with.
        owner: who holds the rights; this and the next four hold for every picture whose list does not say
            otherwise.
        licence: licence or contract.
        note: anything a reviewer should know.
        tags: words to find the pictures by.
        policy: "steer" replaces a copy by another picture, "withhold" hands out nothing for it.
        captions: path, file name or stem → caption.
        batch: how many pictures are embedded and committed together.
        workers: decoding threads; by default one per core.
        ray_actors: with more than 0, pictures are read and embedded by so many actors of a Ray cluster, and
            this process only commits.
        max_pixels: larger pictures are refused.
        reach: what the rows of lists may name: nothing outside of the list's folder, and no address, unless
            it says so.
        on_progress: called after each commit.

    Returns:
        What became of every picture.

    Raises:
        InputError: for paths or options that cannot be used.
        LibraryError: if the encoders are not the library's, or it cannot be written to.
        ConfigError: for `ray_actors` without Ray.
    """
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
    if batch < 1:
        raise InputError(f"batch must be at least 1, got {batch}")
    _check_encoders(library, encoders)
    sources, failed, skipped = discover([paths] if isinstance(paths, str | Path) else paths, reach)
    report = IngestReport(failed=failed, skipped=dict(skipped))
    preprocess = Preprocessor(
        defaults={"owner": owner, "licence": licence, "note": note, "tags": tuple(tags), "policy": policy},
        captions=dict(captions or {}),
        max_pixels=max_pixels,
        sizes=frozenset(int(encoder.size) for encoder in encoders),
        known_hashes=library.hashes(),
    )
    if ray_actors:
        from steerclear.library import distributed

        blocks = distributed.embed_blocks(
            sources, preprocess=preprocess, encoders=encoders, batch=batch, actors=ray_actors
        )
    else:
        workers = workers or os.cpu_count() or 1
        blocks = _embed_blocks(
            sources, preprocess=preprocess, encoders=encoders, batch=batch, workers=workers
        )
    done, before = 0, library.version
    for block in blocks:
        done += len(block)
        preprocess.known_hashes.update(_commit(library, block, report))
        if on_progress:
            progress = Progress(
                done=done,
                total=len(sources),
                added=len(report.added),
                duplicates=len(report.skipped_duplicates),
                failed=len(report.failed),
            )
            on_progress(progress)
    if report.added:
        with suppress(LibraryError):  # everything is saved already; compact files are only faster
            library.tidy(before)
    return report


def _commit(library: Library, block: Sequence[Entry | Skipped], report: IngestReport) -> set[str]:
    """Inserts a block's entries and adds what became of them to the report; returns their hashes."""
    for skipped in (result for result in block if isinstance(result, Skipped)):
        if skipped.reason is None:
            report.skipped_duplicates.append(skipped.source)
        else:
            report.failed.append((skipped.source, skipped.reason))
    entries = [result for result in block if isinstance(result, Entry)]
    inserted = library.insert(entries) if entries else Inserted()
    report.added.extend(inserted.added)
    report.skipped_duplicates.extend(inserted.duplicates)
    report.failed.extend(inserted.refused)
    return {entry.item.sha256 for entry in entries}


def _check_encoders(library: Library, encoders: Sequence[Encoder]) -> None:
    """Raises LibraryError unless these are exactly the library's encoders."""
    for encoder in encoders:
        library.check_encoder(encoder)
    names = {encoder.name for encoder in encoders}
    missing = [str(spec) for spec in library.encoders if spec.name not in names]
    if missing:
        raise LibraryError(
            f"the library at {library.uri!r} also needs encoder {' and '.join(missing)}; pass it too"
        )


def _embed_blocks(
    sources: Sequence[Source],
    *,
    preprocess: Preprocessor,
    encoders: Sequence[Encoder],
    batch: int,
    workers: int,
) -> Iterator[list[Entry | Skipped]]:
    """The sources as entries, `batch` at a time and in order."""
    pictures = _prepare_ahead(sources, preprocess, workers=workers, window=batch)
    while block := list(islice(pictures, batch)):
        yield embed_block(block, encoders)


def _prepare_ahead(
    sources: Sequence[Source],
    preprocess: Callable[[Source], Prepared | Skipped],
    *,
    workers: int,
    window: int,
) -> Iterator[Prepared | Skipped]:
    """Pictures in order, decoded by threads while the caller embeds; at most `window` wait in memory."""
    with ThreadPoolExecutor(workers, thread_name_prefix="steerclear-decode") as pool:
        waiting: deque[Future[Prepared | Skipped]] = deque()
        remaining = iter(sources)
        try:
            for source in islice(remaining, window):
                waiting.append(pool.submit(preprocess, source))
            while waiting:
                picture = waiting.popleft().result()
                for source in islice(remaining, 1):
                    waiting.append(pool.submit(preprocess, source))
                yield picture
        finally:
            for future in waiting:
                future.cancel()
