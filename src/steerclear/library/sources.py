"""Where pictures come from: files, folders, globs, lists and shards, all as named sources of bytes."""

from __future__ import annotations

import csv
import glob
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from steerclear.errors import InputError
from steerclear.library.images import SUFFIXES

LISTS = frozenset((".txt", ".csv", ".parquet", ".tar"))
FIELDS = ("id", "caption", "owner", "licence", "note", "tags", "policy")


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to be read: ref names it (path, URI or shard#member), read gives the file's bytes.

    fields: any of FIELDS that its list or shard says about it; they win over what `add` was given for all.
    """

    ref: str
    read: Callable[[], bytes]
    fields: Mapping[str, Any] = field(default_factory=dict)


def discover(paths: Iterable[str | Path | Source]) -> tuple[list[Source], list[tuple[str, str]]]:
    """All pictures that `paths` name, and (path, reason) for what names none.

    paths: image files; folders, searched with all below them for files with an image's suffix; globs such as
    "art/**/*.png"; `.txt` (a path a line), `.csv` and `.parquet` (column path or source, any of FIELDS beside
    it; relative to the list's folder); `.tar` shards in WebDataset layout; folders that Hugging Face `datasets` saved to
    disk (their image column, and columns named as FIELDS or `text`, which is a caption). fsspec reads paths with "://".
    Raises InputError for a path that does not exist, a glob without a match and a list that cannot be read.
    """
    found: list[Source] = []
    failed: list[tuple[str, str]] = []
    for path in paths:
        if isinstance(path, Source):
            found.append(path)
            continue
        for name in _expand(str(path)):
            before = len(found)
            found.extend(_of(name))
            if len(found) == before:
                failed.append((name, "no pictures in it"))
    return found, failed


def _expand(path: str) -> list[str]:
    if "://" in path or Path(path).exists():
        return [path]
    if re.search(r"[*?\[]", path):
        if matches := sorted(glob.glob(path, recursive=True)):
            return matches
        raise InputError(f"no file matches {path!r}")
    raise InputError(f"there is no file or folder {path!r}")


def _of(path: str) -> Iterator[Source]:
    here = Path(path)
    if "://" in path:
        yield Source(path, partial(_fetch, path))
    elif here.is_dir() and (arrows := sorted(here.rglob("data-*.arrow"))):
        for arrow in arrows:
            try:
                yield from _dataset(arrow)
            except (OSError, ValueError) as error:
                raise InputError(f"cannot read the dataset {str(arrow)!r}: {error}") from error
    elif here.is_dir():
        for child in sorted(here.rglob("*")):
            hidden = any(part.startswith(".") for part in child.relative_to(here).parts)
            if child.suffix.lower() in SUFFIXES and not hidden and child.is_file():
                yield _file(child)
    elif here.suffix.lower() in LISTS:
        reader = {".txt": _text, ".csv": _csv, ".parquet": _parquet, ".tar": _shard}[here.suffix.lower()]
        try:
            yield from reader(here)
        except (OSError, ValueError, csv.Error, tarfile.TarError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot read the list {path!r}: {error}") from error
    else:
        yield _file(here)


def _file(path: Path, fields: Mapping[str, Any] | None = None) -> Source:
    return Source(str(path), path.read_bytes, fields or {})


def _text(path: Path) -> Iterator[Source]:
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if line.strip() and not line.startswith("#"):
            yield _row(path, {"path": line.strip()})


def _csv(path: Path) -> Iterator[Source]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        for row in csv.DictReader(stream):
            yield _row(path, row)


def _parquet(path: Path) -> Iterator[Source]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        wanted = [name for name in file.schema_arrow.names if name in ("path", "source", *FIELDS)]
        for part in file.iter_batches(columns=wanted):
            for row in part.to_pylist():
                yield _row(path, row)


def _dataset(path: Path) -> Iterator[Source]:
    """The rows of one Arrow file of `datasets`, which keeps a picture as a struct of its bytes or its path."""
    import pyarrow as pa

    table = _arrow(path)
    kinds = {f.name: f.type for f in table.schema}
    image = next(
        (n for n, k in kinds.items() if pa.types.is_struct(k) and {"bytes", "path"} <= {f.name for f in k}),
        None,
    )
    if image is None:
        raise InputError(f"the dataset {str(path)!r} has no column of pictures")
    described = {name: ("caption" if name == "text" else name) for name in kinds if name in (*FIELDS, "text")}
    columns = table.select(list(described)).to_pydict()
    for row in range(len(table)):
        fields = {described[name]: values[row] for name, values in columns.items() if values[row]}
        yield Source(f"{path}#{row}", partial(_cell, path, image, row), fields)


def _cell(path: Path, column: str, row: int) -> bytes:
    cell = _arrow(path)[column][row].as_py()
    raw: bytes = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
    return raw


@lru_cache(maxsize=64)
def _arrow(path: Path) -> Any:
    """The file as a table, mapped into memory and read where it is touched."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def _row(listing: Path, row: Mapping[str, Any]) -> Source:
    ref = row.get("path") or row.get("source")
    if not ref:
        raise InputError(f"the list {str(listing)!r} needs a column 'path' with a value in every row")
    fields = {name: row[name] for name in FIELDS if row.get(name)}
    if "://" in ref:
        return Source(ref, partial(_fetch, ref), fields)
    beside = listing.parent / ref
    return _file(Path(ref) if not beside.exists() and Path(ref).exists() else beside, fields)


def _fetch(uri: str) -> bytes:
    import fsspec

    with fsspec.open(uri, "rb") as stream:
        content: bytes = stream.read()
    return content


def _shard(path: Path) -> Iterator[Source]:
    """Members named alike up to the first dot are one sample: picture, `.txt` caption, `.json` fields."""
    pictures: list[tuple[str, tarfile.TarInfo]] = []
    beside: dict[str, dict[str, Any]] = {}
    with tarfile.open(
        path, "r:"
    ) as shard:  # uncompressed only: members are then read in any order, by offset
        for member in shard:
            folder, _, base = member.name.rpartition("/")
            stem, _, suffix = base.partition(".")
            key, suffix = f"{folder}/{stem}", "." + suffix.lower()
            if not member.isfile():
                continue
            if suffix in SUFFIXES:
                pictures.append((key, member))
            elif suffix in (".txt", ".json") and (stream := shard.extractfile(member)):
                said = stream.read().decode()
                beside.setdefault(key, {}).update(
                    {"caption": said.strip()} if suffix == ".txt" else json.loads(said)
                )
    for key, member in pictures:
        fields = {name: value for name, value in beside.get(key, {}).items() if name in FIELDS and value}
        read = partial(_slice, path, member.offset_data, member.size)
        yield Source(f"{path}#{member.name}", read, fields)


def _slice(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)
