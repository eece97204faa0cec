"""Adding pictures to a library: read, decode and embed in batches, and commit each batch before the next."""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear.encoders.base import check_embedding
from steerclear.errors import InputError, LibraryError
from steerclear.library.images import MAX_PIXELS, phash, read_image, thumbnail, to_tensor
from steerclear.library.schema import POLICIES, Entry, Inserted, Item, Policy
from steerclear.library.sources import Source, discover

if TYPE_CHECKING:
    from torch import Tensor

    from steerclear.encoders.base import Encoder
    from steerclear.library.store import Library


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of every picture: ids added, sources skipped as exact copies, (source, reason) failed."""

    added: list[str] = field(default_factory=list)
    skipped_duplicates: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Progress:
    """State after a commit: of `total` pictures `done` are settled, and the `added` ones safe on disk."""

    done: int
    total: int
    added: int
    duplicates: int
    failed: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture that could be read, at the sizes that the encoders take."""

    item: Item
    thumbnail: bytes
    inputs: dict[int, Tensor]  # side → (3, side, side)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that will not be added."""

    source: str
    reason: str | None  # None: an exact duplicate


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
    on_progress: Callable[[Progress], None] | None = None,
) -> IngestReport:
    """Add pictures to `library`; a bad one is reported and never stops the rest.

    paths: see `sources.discover`; encoders: all those of the library; owner … policy: for every picture
    whose list does not say otherwise; captions: by path, file name or stem; batch: pictures embedded and
    committed together; workers: decoding threads, by default one a core; ray_actors: read and embed with as many actors of
    the Ray cluster at hand, instead of in this process, which then only commits; on_progress: called after each
    commit. Killed at any moment, the library holds every batch that was committed, and the same call again
    does the rest. Raises InputError for paths or options that cannot be used, LibraryError for other
    encoders than the library's.
    """
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r} is none of {', '.join(POLICIES)}")
    if batch < 1:
        raise InputError(f"batch must be at least 1, got {batch}")
    _check_encoders(library, encoders)
    sources, failed = discover([paths] if isinstance(paths, str | Path) else paths)
    report = IngestReport(failed=failed)
    prepare = Prepare(
        {"owner": owner, "licence": licence, "note": note, "tags": tuple(tags), "policy": policy},
        dict(captions or {}), max_pixels, frozenset(int(e.size) for e in encoders), library.hashes(),
    )  # fmt: skip
    if ray_actors:
        from steerclear.library import distributed

        blocks = distributed.blocks(sources, prepare, encoders, batch, ray_actors)
    else:
        blocks = _blocks(sources, prepare, encoders, batch, workers or os.cpu_count() or 1)
    done = 0
    for block in blocks:
        done += len(block)
        for skipped in (b for b in block if isinstance(b, Skipped)):
            if skipped.reason is None:
                report.skipped_duplicates.append(skipped.source)
            else:
                report.failed.append((skipped.source, skipped.reason))
        entries = [b for b in block if isinstance(b, Entry)]
        inserted = library.insert(entries) if entries else Inserted()
        prepare.known.update(e.item.sha256 for e in entries)
        report.added.extend(inserted.added)
        report.skipped_duplicates.extend(inserted.duplicates)
        report.failed.extend(inserted.refused)
        if on_progress:
            counts = (len(report.added), len(report.skipped_duplicates), len(report.failed))
            on_progress(Progress(done, len(sources), *counts))
    if report.added:
        with suppress(LibraryError):  # everything is safe already, compact files are only faster
            library.compact()
    return report


@dataclass(frozen=True)
class Prepare:
    """From a source to what the encoders take; it travels to other processes.

    known: sha256 of what the library holds, whose sources are skipped.
    """

    defaults: Mapping[str, Any]
    captions: Mapping[str, str]
    max_pixels: int
    sizes: frozenset[int]
    known: set[str]

    def __call__(self, source: Source) -> Prepared | Skipped:
        try:
            raw = source.read()
            sha256 = hashlib.sha256(raw).hexdigest()
            if sha256 in self.known:
                return Skipped(source.ref, None)
            picture = read_image(raw, name=source.ref, max_pixels=self.max_pixels)
            fields = _fields(source, self.defaults, self.captions)
            if picture.info["frames"] > 1:
                fields["note"] = "; ".join(
                    filter(None, (fields["note"], f"first of {picture.info['frames']} frames"))
                )
            item = Item(source=source.ref, sha256=sha256, phash=phash(picture), **fields)
            return Prepared(item, thumbnail(picture), {size: to_tensor(picture, size) for size in self.sizes})
        except Exception as error:  # whatever one file does, the others go on
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return Skipped(source.ref, text or type(error).__name__)


def embedded(block: Sequence[Prepared | Skipped], encoders: Sequence[Encoder]) -> list[Entry | Skipped]:
    """A block with vectors; what an encoder cannot embed is skipped with the reason."""
    entries, failed = _embed([b for b in block if isinstance(b, Prepared)], encoders)
    return [*(b for b in block if isinstance(b, Skipped)), *entries, *(Skipped(*one) for one in failed)]


def _blocks(
    sources: Sequence[Source], prepare: Prepare, encoders: Sequence[Encoder], batch: int, workers: int
) -> Iterator[list[Entry | Skipped]]:
    ready = _ahead(prepare, sources, workers, batch)
    while block := list(islice(ready, batch)):
        yield embedded(block, encoders)


def _check_encoders(library: Library, encoders: Sequence[Encoder]) -> None:
    for encoder in encoders:
        library.check_encoder(encoder)
    missing = [str(s) for s in library.encoders if s.name not in {e.name for e in encoders}]
    if missing:
        raise LibraryError(
            f"the library at {library.uri!r} also needs encoder {' and '.join(missing)}; pass it too"
        )


def _fields(source: Source, defaults: Mapping[str, Any], captions: Mapping[str, str]) -> dict[str, Any]:
    """The item's descriptive columns: what the list says, else what was said for all."""
    fields = {"id": "", "caption": "", **defaults, **source.fields}
    name = Path(source.ref.rsplit("#", 1)[-1])
    if "caption" not in source.fields:
        fields["caption"] = next(
            (captions[k] for k in (source.ref, name.name, name.stem) if k in captions), ""
        )
    tags = fields["tags"]
    fields["tags"] = tuple(
        t.strip() for t in (re.split("[;,]", tags) if isinstance(tags, str) else tags) if t.strip()
    )
    return fields | {k: str(v) for k, v in fields.items() if k != "tags"}


def _ahead(
    prepare: Callable[[Source], Prepared | Skipped], sources: Sequence[Source], workers: int, window: int
) -> Iterator[Prepared | Skipped]:
    """Results in order, prepared by threads while the caller embeds; at most `window` wait in memory."""
    with ThreadPoolExecutor(workers, thread_name_prefix="steerclear-decode") as pool:
        waiting: deque[Future[Prepared | Skipped]] = deque()
        rest = iter(sources)
        try:
            for source in islice(rest, window):
                waiting.append(pool.submit(prepare, source))
            while waiting:
                result = waiting.popleft().result()
                for source in islice(rest, 1):
                    waiting.append(pool.submit(prepare, source))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def _embed(
    prepared: Sequence[Prepared], encoders: Sequence[Encoder]
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """Entries with vectors, and (source, reason) for pictures that an encoder cannot embed."""
    if not prepared:
        return [], []
    try:
        by_encoder = {e.name: _vectors(e, [p.inputs[int(e.size)] for p in prepared]) for e in encoders}
    except Exception as error:  # memory, or one picture that gives NaN: find out which one by one
        if len(prepared) == 1:
            return [], [(prepared[0].item.source, str(error))]
        parts = [_embed([p], encoders) for p in prepared]
        return [e for entries, _ in parts for e in entries], [f for _, failed in parts for f in failed]
    return [
        Entry(p.item, p.thumbnail, {name: rows[i] for name, rows in by_encoder.items()})
        for i, p in enumerate(prepared)
    ], []


def _vectors(encoder: Encoder, inputs: Sequence[Tensor]) -> Tensor:
    import torch

    with torch.no_grad():
        embedding = check_embedding(encoder(torch.stack(list(inputs))), encoder, len(inputs))
    return embedding.float().cpu()
