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
from steerclear.library.files import Reach, is_within, read_address, read_file
from steerclear.library.images import SUFFIXES

LISTS = frozenset((".txt", ".csv", ".parquet", ".tar"))
NEAR = Reach()
FIELDS = ("id", "caption", "owner", "licence", "note", "tags", "policy")


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to be read.

    Attributes:
        ref: its name: a path, a URI, or shard#member.
        read: returns the file's bytes.
        fields: any of FIELDS that its list or shard gives for it; they win over the arguments of `add`.
    """

    ref: str
    read: Callable[[], bytes]
    fields: Mapping[str, Any] = field(default_factory=dict)


def discover(
    paths: Iterable[str | Path | Source], reach: Reach = NEAR
) -> tuple[list[Source], list[tuple[str, str]]]:
    """Finds all pictures that some paths name.

    Args:
        paths: each of them one of

            - an image file, or an address with "://", which fsspec reads;
            - a folder, searched with all folders below it for files with an image's suffix;
            - a glob such as "art/**/*.png";
            - a list: `.txt` with one path per line, `.csv` or `.parquet` with a column `path` or `source` and
              any of FIELDS beside it; paths are relative to the list's folder;
            - a `.tar` shard in WebDataset layout;
            - a folder that Hugging Face `datasets` saved to disk: its image column, and columns named as
              FIELDS, or `text`, which is the caption.
        reach: what the rows of lists and datasets may name. Reading a row that names more raises InputError.

    Returns:
        The sources, and (path, reason) for each path without pictures.

    Raises:
        InputError: for a path that does not exist, a glob without a match, or a list that cannot be read.
    """
    sources: list[Source] = []
    failed: list[tuple[str, str]] = []
    for path in paths:
        if isinstance(path, Source):
            sources.append(path)
            continue
        for name in _expand(str(path)):
            before = len(sources)
            sources.extend(_sources(name, reach))
            if len(sources) == before:
                failed.append((name, "no pictures in it"))
    return sources, failed


def read_source(ref: str) -> bytes:
    """The bytes of a picture that has a file or an address of its own.

    Args:
        ref: a path or an address, as `Source.ref`.

    Raises:
        InputError: for what is no regular file, or too large.
        OSError: if it cannot be read.
    """
    return read_address(ref) if "://" in ref else read_file(ref)


def _expand(path: str) -> list[str]:
    """The paths that a glob matches, else the path itself."""
    if "://" in path or Path(path).exists():
        return [path]
    if re.search(r"[*?\[]", path):
        if matches := sorted(glob.glob(path, recursive=True)):
            return matches
        raise InputError(f"no file matches {path!r}; check the pattern")
    raise InputError(f"there is no file or folder {path!r}; check the path")


def _sources(name: str, reach: Reach) -> Iterator[Source]:
    """All pictures of one path or address."""
    path = Path(name)
    if "://" in name:
        yield Source(name, partial(read_address, name, reach.max_bytes))
    elif path.is_dir() and (arrow_files := sorted(path.rglob("data-*.arrow"))):
        for arrow_file in arrow_files:
            try:
                yield from _dataset(arrow_file, reach)
            except (OSError, ValueError) as error:
                raise InputError(f"cannot read the dataset {str(arrow_file)!r}: {error}") from error
    elif path.is_dir():
        for child in sorted(path.rglob("*")):
            hidden = any(part.startswith(".") for part in child.relative_to(path).parts)
            if child.suffix.lower() in SUFFIXES and not hidden and child.is_file():
                yield _file(child, reach)
    elif path.suffix.lower() in LISTS:
        reader = {".txt": _text, ".csv": _csv, ".parquet": _parquet, ".tar": _shard}[path.suffix.lower()]
        try:
            yield from reader(path, reach)
        except (OSError, ValueError, csv.Error, tarfile.TarError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot read the list {name!r}: {error}") from error
    else:
        yield _file(path, reach)


def _file(path: Path, reach: Reach, fields: Mapping[str, Any] | None = None) -> Source:
    return Source(str(path), partial(read_file, path, reach.max_bytes), fields or {})


def _text(path: Path, reach: Reach) -> Iterator[Source]:
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if line.strip() and not line.startswith("#"):
            yield _listed(path, {"path": line.strip()}, reach)


def _csv(path: Path, reach: Reach) -> Iterator[Source]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        for row in csv.DictReader(stream):
            yield _listed(path, row, reach)


def _parquet(path: Path, reach: Reach) -> Iterator[Source]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = [name for name in file.schema_arrow.names if name in ("path", "source", *FIELDS)]
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                yield _listed(path, row, reach)


def _dataset(path: Path, reach: Reach) -> Iterator[Source]:
    """The rows of one Arrow file of `datasets`, which keeps a picture as a struct of bytes and path."""
    import pyarrow as pa

    table = _arrow(path)
    types = {column.name: column.type for column in table.schema}
    image_columns = [
        name
        for name, kind in types.items()
        if pa.types.is_struct(kind) and {"bytes", "path"} <= {part.name for part in kind}
    ]
    if not image_columns:
        raise InputError(f"the dataset {str(path)!r} has no column of pictures")
    field_of = {name: ("caption" if name == "text" else name) for name in types if name in (*FIELDS, "text")}
    columns = table.select(list(field_of)).to_pydict()
    for row in range(len(table)):
        fields = {field_of[name]: values[row] for name, values in columns.items() if values[row]}
        yield Source(f"{path}#{row}", partial(_read_cell, path, image_columns[0], row, reach), fields)


def _read_cell(path: Path, column: str, row: int, reach: Reach) -> bytes:
    """The picture in one cell of a dataset's Arrow file."""
    cell = _arrow(path)[column][row].as_py()
    if cell["bytes"] is not None:
        raw: bytes = cell["bytes"]
        return raw
    return _listed(path, {"path": cell["path"]}, reach).read()


@lru_cache(maxsize=64)
def _arrow(path: Path) -> Any:
    """The file as a table, mapped into memory, so that only the parts in use are read."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()


def _listed(list_file: Path, row: Mapping[str, Any], reach: Reach) -> Source:
    """The picture that one row of a list names; reading it raises InputError if the row may not name it."""
    ref = row.get("path") or row.get("source")
    if not ref:
        raise InputError(f"the list {str(list_file)!r} needs a column 'path' with a value in every row")
    fields = {name: row[name] for name in FIELDS if row.get(name)}
    if "://" in ref:
        if not reach.remote:
            return _refused(ref, "it is an address; allow those in lists with --allow-remote", fields)
        return Source(ref, partial(read_address, ref, reach.max_bytes), fields)
    beside = list_file.parent / ref
    path = Path(ref) if not beside.exists() and Path(ref).exists() else beside
    if not reach.outside and not is_within(path, list_file.parent):
        return _refused(
            str(path), "it lies outside of its list's folder; allow that with --allow-outside", fields
        )
    return _file(path, reach, fields)


def _refused(ref: str, reason: str, fields: Mapping[str, Any]) -> Source:
    """A source that cannot be read, for a reason."""

    def read() -> bytes:
        raise InputError(f"{ref!r} is not read: {reason}")

    return Source(ref, read, fields)


def _shard(path: Path, reach: Reach) -> Iterator[Source]:
    """The pictures of a shard: members with the same name up to the first dot belong together.

    They are a picture, its caption (`.txt`) and its fields (`.json`).
    """
    pictures: list[tuple[str, tarfile.TarInfo]] = []
    fields_of: dict[str, dict[str, Any]] = {}
    # uncompressed only: members can then be read in any order, by offset
    with tarfile.open(path, "r:") as shard:
        for member in shard:
            folder, _, base = member.name.rpartition("/")
            stem, _, suffix = base.partition(".")
            key, suffix = f"{folder}/{stem}", "." + suffix.lower()
            if not member.isfile():
                continue
            if suffix in SUFFIXES:
                pictures.append((key, member))
            elif suffix in (".txt", ".json") and (stream := shard.extractfile(member)):
                text = stream.read().decode()
                fields = {"caption": text.strip()} if suffix == ".txt" else json.loads(text)
                fields_of.setdefault(key, {}).update(fields)
    for key, member in pictures:
        fields = {name: value for name, value in fields_of.get(key, {}).items() if name in FIELDS and value}
        if member.size > reach.max_bytes:
            yield _refused(f"{path}#{member.name}", f"it has more than {reach.max_bytes:,} bytes", fields)
            continue
        read = partial(_read_slice, path, member.offset_data, member.size)
        yield Source(f"{path}#{member.name}", read, fields)


def _read_slice(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)
