"""Where pictures come from: files, folders, globs, lists and shards, all as named sources of bytes."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from steerclear.errors import InputError
from steerclear.library.content import HEAD, SUFFIXES, content_of
from steerclear.library.files import Reach, is_within, open_file, read_address, read_file

LISTS = frozenset((".txt", ".csv", ".parquet", ".tar"))
NEAR = Reach()
FIELDS = ("id", "caption", "owner", "licence", "note", "tags", "policy")
LONGEST_FIELD = 100_000  # characters of what a list says of a picture
LONGEST_LINE = 64 * LONGEST_FIELD  # characters of a line in a list
LONGEST_LIST = 256 * 2**20  # characters of a list, or of all that a list says of its pictures
MOST_ROWS = 5_000_000  # of a list; as many sources take about 4 GB
DATASET = "data-*.arrow"  # the files of a folder that `datasets` saved
TAR_BLOCK = 512
_MASS = frozenset(("audio", "empty", "model weights", "PDF", "PostScript", "text", "unknown", "video"))


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to be read.

    Attributes:
        ref: where it lies: a path, a URI, or shard#member.
        read: returns the file's bytes.
        fields: any of FIELDS that its list or shard gives for it; they win over the arguments of `add`.
        name: its own file name, of which its id is made; by default the last part of `ref`.
    """

    ref: str
    read: Callable[[], bytes]
    fields: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def file_name(self) -> str:
        """Its own file name, without the folders, the shard or the address."""
        path = urlsplit(self.ref).path if "://" in self.ref else self.ref
        return self.name or re.split(r"[/\\]", path)[-1]


class Discovered(NamedTuple):
    """What some paths name.

    Attributes:
        sources: the pictures, and what is meant to be one and will fail.
        failed: (path, reason) of what cannot be looked into.
        skipped: kind → how many files of folders and shards are no pictures, or hidden.
    """

    sources: list[Source]
    failed: list[tuple[str, str]]
    skipped: Counter[str]


def in_words(skipped: Mapping[str, int]) -> str:
    """What was skipped, such as "3 text, 2 archives, 1 PDF": the most frequent kind first."""
    kinds = sorted(skipped.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{n} {kind}{'s' if n > 1 and kind not in _MASS else ''}" for kind, n in kinds)


def discover(paths: Iterable[str | Path | Source], reach: Reach = NEAR) -> Discovered:
    """Finds all pictures that some paths name.

    What a file is, its first bytes say. A file whose name has a picture's suffix is a source all the same, so
    that a damaged picture is a failure and not left out.

    Args:
        paths: each of them one of

            - an image file, or an address with "://", which fsspec reads;
            - a folder, searched for pictures with all folders below it, but not the hidden ones;
            - a glob such as "art/**/*.png";
            - a list: `.txt` with one path per line, `.csv` or `.parquet` with a column `path` or `source` and
              any of FIELDS beside it; paths are relative to the list's folder;
            - a `.tar` shard in WebDataset layout;
            - a folder that Hugging Face `datasets` saved to disk: its image column, and columns named as
              FIELDS, or `text`, which is the caption.
        reach: what the rows of lists and datasets may name. Reading a row that names more raises InputError,
            and so does reading a row that makes no sense.

    Raises:
        InputError: for a path that does not exist, a glob without a match, or a list that cannot be read.
    """
    search = _Search(reach)
    for path in paths:
        if isinstance(path, Source):
            search.sources.append(path)
            continue
        for name in _expand(str(path)):
            before = len(search.sources), len(search.failed)
            search.look_into(name)
            if before == (len(search.sources), len(search.failed)):
                search.failed.append((name, "no pictures in it"))
    return Discovered(search.sources, search.failed, search.skipped)


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
    try:
        if "://" in path or Path(path).exists():
            return [path]
        if re.search(r"[*?\[]", path):
            if matches := sorted(glob.glob(path, recursive=True)):
                return matches
            raise InputError(f"no file matches {path!r}; check the pattern")
    except OSError as error:  # too long for a name, or a folder above it that may not be entered
        raise InputError(f"{path!r} cannot be used: {error.strerror}; check the path") from error
    raise InputError(f"there is no file or folder {path!r}; check the path")


class _Search:
    """Looks into paths one after the other, and keeps what they hold."""

    def __init__(self, reach: Reach) -> None:
        self.reach = reach
        self.sources: list[Source] = []
        self.failed: list[tuple[str, str]] = []
        self.skipped: Counter[str] = Counter()

    def look_into(self, name: str) -> None:
        """Adds all pictures of one path or address."""
        path = Path(name)
        if "://" in name:
            self.sources.append(Source(name, partial(read_address, name, self.reach.max_bytes)))
        elif path.is_dir():
            self._folder(path)
        elif reader := _list_reader(path):
            try:
                self.sources.extend(_bounded(path, reader(self, path)))
            except InputError:
                raise
            except Exception as error:  # readers of damaged files raise nearly anything
                raise InputError(f"cannot read the list {name!r}: {_one_line(error)}") from error
        else:
            self.sources.append(_file(path, self.reach))

    def _folder(self, root: Path) -> None:
        """The pictures of a folder: first the rows of datasets in it, which say more of them, then files."""
        files, datasets = [], []
        for folder, folders, names in os.walk(root, onerror=self._not_entered):
            linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            self.skipped.update(["linked folder"] * len(linked))
            here = [Path(folder, name) for name in names]
            datasets += [path for path in here if path.match(DATASET)]
            files += [path for path in here if not path.match(DATASET)]
        for path in sorted(datasets):
            try:
                self.sources.extend(_bounded(path, _dataset(path, self.reach)))
            except InputError:
                raise
            except Exception as error:  # as above
                raise InputError(f"cannot read the dataset {str(path)!r}: {_one_line(error)}") from error
        for path in sorted(files):
            hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            kind = _kind(path, hidden)
            if kind is None:
                self.sources.append(_file(path, self.reach))
            else:
                self.skipped[kind] += 1

    def _not_entered(self, error: OSError) -> None:
        self.failed.append((str(error.filename), error.strerror or str(error)))

    def text(self, path: Path) -> Iterator[Source]:
        """The pictures that the lines of a text name."""
        for line in _lines(path, newline=None):
            if line.strip() and not line.startswith("#"):
                yield _listed(path, {"path": line.strip()}, self.reach)

    def csv(self, path: Path) -> Iterator[Source]:
        """The pictures that the rows of a table in text name."""
        rows = csv.DictReader(_lines(path, newline=""))
        _check_columns(path, rows.fieldnames or ())
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield _refused(f"{path}, line {rows.line_num}", str(error))
            else:
                yield _listed(path, row, self.reach)

    def parquet(self, path: Path) -> Iterator[Source]:
        """The pictures that the rows of a Parquet table name."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pq.read_schema(path)
        names = [name for name in schema.names if name in ("path", "source", *FIELDS)]
        _check_columns(path, names)
        texts = [name for name in names if pa.types.is_string(schema.field(name).type)]
        # as a dictionary, and few at a time: a small file may repeat a long text a million times
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=256, columns=names):
                for row in range(len(batch)):
                    yield _listed(path, _Row(batch, row), self.reach)

    def shard(self, path: Path) -> Iterator[Source]:
        """The pictures of a shard: members with the same name up to the first dot belong together.

        They are a picture, its caption (`.txt`) and its fields (`.json`).
        """
        pictures: list[tuple[str, tarfile.TarInfo]] = []
        beside: dict[str, list[tarfile.TarInfo]] = {}
        # uncompressed only: members can then be read in any order, by offset
        with tarfile.open(path, "r:", errors="surrogateescape") as shard, path.open("rb") as stream:
            for member in self._members(path, shard):
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                key = f"{folder}/{stem}"
                hidden = any(part.startswith(".") and part.strip(".") for part in member.name.split("/"))
                if not member.isreg() or member.issparse():
                    self.skipped["link" if member.islnk() or member.issym() else "device"] += 1
                elif suffix.lower() in ("txt", "json") and not hidden:
                    beside.setdefault(key, []).append(member)
                else:
                    head = _slice(stream, member.offset_data, min(member.size, HEAD))
                    kind = _kind_of(head, member.name, hidden)
                    if kind is None:
                        pictures.append((key, member))
                    else:
                        self.skipped[kind] += 1
            self.skipped["text"] += sum(
                len(members) for key, members in beside.items() if key not in {key for key, _ in pictures}
            )
            if not self.skipped["text"]:
                del self.skipped["text"]
            for key, member in pictures:
                ref = f"{path}#{member.name}"
                try:
                    fields = _fields_beside(stream, beside.get(key, ()))
                except InputError as error:
                    yield _refused(ref, str(error))
                    continue
                if member.size > self.reach.max_bytes:
                    yield _refused(ref, f"it has more than {self.reach.max_bytes:,} bytes")
                    continue
                read = partial(_read_slice, path, member.offset_data, member.size)
                yield Source(ref, read=read, fields=fields, name=PurePosixPath(member.name).name)

    def _members(self, path: Path, shard: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        """All members but folders. What follows a damaged place cannot be read, and is a failure."""
        any_read = False
        try:
            for member in shard:
                any_read = True
                if not member.isdir():
                    yield member
        except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
            if not any_read:
                raise
            self.failed.append((str(path), f"it is cut or damaged: {_one_line(error)}; the rest is missing"))
            return
        # tarfile ends without a word at a damaged header
        with path.open("rb") as stream:
            mark = _slice(stream, shard.offset, TAR_BLOCK)
        if len(mark) < TAR_BLOCK or any(mark):
            self.failed.append(
                (str(path), f"it is cut or damaged at byte {shard.offset:,}; the rest is missing")
            )


def _bounded(path: Path, sources: Iterable[Source]) -> Iterator[Source]:
    """The sources of a list, which keep each text once: a small file may repeat a long one a million times.

    Raises:
        InputError: for more than MOST_ROWS, or different texts of more than LONGEST_LIST characters.
    """
    texts: dict[Any, Any] = {}
    size = 0
    for number, source in enumerate(sources, start=1):
        if number > MOST_ROWS:
            raise InputError(f"the list {str(path)!r} has more than {MOST_ROWS:,} rows; split it")
        for value in source.fields.values():
            if value not in texts:
                texts[value] = value
                size += len(value) if isinstance(value, str) else sum(map(len, value))
        if size > LONGEST_LIST:
            raise InputError(
                f"the list {str(path)!r} says more than {LONGEST_LIST:,} characters of its pictures; split it"
            )
        yield replace(source, fields={name: texts[value] for name, value in source.fields.items()})


def _lines(path: Path, newline: str | None) -> Iterator[str]:
    """The lines of a list, of which none is read before it is known to be short enough."""
    with io.TextIOWrapper(open_file(path), "utf-8-sig", "surrogateescape", newline) as stream:
        size = 0
        for number in count(1):
            line = stream.readline(LONGEST_LINE + 1)
            if not line:
                return
            size += len(line)
            if len(line) > LONGEST_LINE:
                raise InputError(
                    f"line {number} of the list {str(path)!r} has more than {LONGEST_LINE:,} characters; is "
                    "it a list of paths?"
                )
            if size > LONGEST_LIST:
                raise InputError(
                    f"the list {str(path)!r} has more than {LONGEST_LIST:,} characters; split it, and add "
                    "the parts one after the other"
                )
            yield line


def _list_reader(path: Path) -> Callable[[_Search, Path], Iterator[Source]] | None:
    """What reads a list; None for a file of its own. A picture is none, whatever its name says."""
    readers = {
        ".txt": _Search.text,
        ".csv": _Search.csv,
        ".parquet": _Search.parquet,
        ".tar": _Search.shard,
        ".arrow": lambda search, path: _dataset(path, search.reach),
    }
    reader = readers.get(path.suffix.lower())
    if reader and path.is_file() and content_of(_head(path)).picture:
        return None
    return reader


def _kind(path: Path, hidden: bool) -> str | None:
    """As `_kind_of`, of a path."""
    if path.suffix.lower() in SUFFIXES and not hidden:
        return None
    if not path.is_file():
        return "broken link" if path.is_symlink() and not path.exists() else "device"
    try:
        head = _head(path)
    except (OSError, InputError):
        return None  # reading it will say why it cannot be read
    return _kind_of(head, path.name, hidden)


def _kind_of(head: bytes, name: str, hidden: bool) -> str | None:
    """What a file that is not added is called; None for what is a picture or has the name of one."""
    content = content_of(head)
    if hidden:
        return "hidden picture" if content.picture else "hidden file"
    return None if content.picture or PurePosixPath(name).suffix.lower() in SUFFIXES else content.name


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(HEAD)


def _file(path: Path, reach: Reach, fields: Mapping[str, Any] | None = None) -> Source:
    return Source(
        str(path), read=partial(read_file, path, reach.max_bytes), fields=fields or {}, name=path.name
    )


def _check_columns(path: Path, names: Iterable[str]) -> None:
    if not {"path", "source"} & set(names):
        raise InputError(f"the list {str(path)!r} has no column 'path', which says where its pictures lie")


class _Row(Mapping[str, Any]):
    """One row of an Arrow batch; a cell that is no valid text raises ValueError."""

    def __init__(self, batch: Any, row: int) -> None:
        self._batch, self._row = batch, row

    def __getitem__(self, name: str) -> Any:
        return _cell(name, self._batch[name][self._row])

    def __iter__(self) -> Iterator[str]:
        return iter(self._batch.schema.names)

    def __len__(self) -> int:
        return len(self._batch.schema.names)


def _cell(name: str, scalar: Any) -> Any:
    """A cell as Python has it: a number, a text or a list of these. What is longer is refused unread.

    Raises:
        InputError: for what is too long, or nested deeper.
        ValueError: for a text that is none.
    """
    import pyarrow as pa

    values = _plain(scalar)
    if not isinstance(values, pa.ListScalar | pa.LargeListScalar | pa.FixedSizeListScalar):
        return _short(name, values, LONGEST_FIELD)
    cells: list[Any] = []
    left = LONGEST_FIELD
    for value in values.values or ():
        cells.append(_short(name, _plain(value), left))
        left -= len(str(cells[-1]))
    return cells if values.is_valid else None


def _plain(scalar: Any) -> Any:
    """A scalar itself, where it is an entry of a dictionary."""
    import pyarrow as pa

    return scalar.value if isinstance(scalar, pa.DictionaryScalar) else scalar


def _short(name: str, scalar: Any, longest: int) -> Any:
    """A number or a text of at most `longest` characters. Raises as `_cell` does."""
    import pyarrow as pa

    if not scalar.is_valid:
        return None
    if pa.types.is_nested(scalar.type):
        raise InputError(f"its {name} is a {scalar.type} and no text")
    buffer = scalar.as_buffer() if hasattr(scalar, "as_buffer") else None
    if buffer is not None and buffer.size > 4 * longest:  # a character has four bytes at most
        raise InputError(f"its {name} has {buffer.size:,} bytes, and {longest:,} characters are the most")
    return scalar.as_py()


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
    number = count()
    for batch in table.select([image_columns[0], *field_of]).to_batches():
        for row, index in zip(range(len(batch)), number, strict=False):
            ref = f"{path}#{index}"
            cells = _Row(batch, row)
            try:
                fields = _fields({field: cells[name] for name, field in field_of.items()})
            except (InputError, ValueError) as error:
                yield _refused(ref, _one_line(error))
                continue
            yield Source(
                ref,
                read=partial(_read_cell, path, column=image_columns[0], row=index, reach=reach),
                fields=fields,
                name=str(index),
            )


def _read_cell(path: Path, column: str, row: int, reach: Reach) -> bytes:
    """The picture in one cell of a dataset's Arrow file."""
    cell = _arrow(path)[column][row].as_py()
    if cell is None or (cell["bytes"] is None and not cell["path"]):
        raise InputError("its row holds no picture")
    raw = cell["bytes"]
    if raw is None:
        return _listed(path, {"path": cell["path"]}, reach).read()
    if not isinstance(raw, bytes):
        raise InputError(f"its row holds {type(raw).__name__} for a picture, not bytes")
    return raw


def _arrow(path: Path) -> Any:
    """The file as a table, mapped into memory, so that only the parts in use are read."""
    status = path.stat()
    return _arrow_of(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _arrow_of(path: Path, changed: int, size: int) -> Any:
    """The table of a file as it was changed last."""
    import pyarrow as pa

    table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    table.validate(full=True)  # a wrong offset would be followed out of the file
    return table


def _listed(list_file: Path, row: Mapping[str, Any], reach: Reach) -> Source:
    """The picture that one row of a list names; reading it raises InputError if that cannot be."""
    ref = "a row without a path"
    try:
        ref = _text_of("path", row.get("path")) or _text_of("source", row.get("source")) or ref
        if ref == "a row without a path":
            raise InputError("there is nothing in its column 'path'")
        fields = _fields(row)
        if "://" in ref:
            if not reach.remote:
                raise InputError("it is an address; allow those in lists with --allow-remote")
            return Source(ref, partial(read_address, ref, reach.max_bytes), fields)
        beside = list_file.parent / ref
        path = Path(ref) if not beside.exists() and Path(ref).exists() else beside
        if not reach.outside and not is_within(path, list_file.parent):
            ref = str(path)
            raise InputError("it lies outside of its list's folder; allow that with --allow-outside")
    except (InputError, OSError, ValueError, RuntimeError) as error:
        # too long for a name, a zero byte in it, links in a circle, a cell that is no text
        return _refused(ref if len(ref) < 300 else f"{ref[:300]}…", _one_line(error))
    return _file(path, reach, fields)


def _refused(ref: str, reason: str) -> Source:
    """A source that cannot be read, for a reason."""

    def read() -> bytes:
        raise InputError(f"{ref!r} is not read: {reason}")

    return Source(ref, read)


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says of its picture: texts, and for the tags a text or a tuple of texts.

    Raises:
        InputError: for a value that is no text, or far too long.
        ValueError: for bytes that are no text.
    """
    fields: dict[str, Any] = {}
    for name in FIELDS:
        value = row.get(name)
        if name == "tags" and isinstance(value, list | tuple):
            fields[name] = tuple(tag for tag in (_text_of("tags", tag) for tag in value) if tag)
        elif text := _text_of(name, value):
            fields[name] = text
    return {name: value for name, value in fields.items() if value}


def _text_of(name: str, value: Any) -> str:
    """A cell as text; "" for what is missing, which is NaN in a table that pandas wrote."""
    if value is None or value != value:
        return ""
    if isinstance(value, bytes | bytearray):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"its {name} is bytes that are no text") from error
    if not isinstance(value, str) and (isinstance(value, Mapping | Iterable)):
        raise InputError(f"its {name} is a {type(value).__name__} and no text")
    text = str(value)
    if len(text) > LONGEST_FIELD:
        raise InputError(f"its {name} has {len(text):,} characters, and {LONGEST_FIELD:,} are the most")
    return text


def _fields_beside(stream: Any, members: Iterable[tarfile.TarInfo]) -> dict[str, Any]:
    """What the texts beside a picture in a shard say of it. Raises InputError for what cannot be read."""
    fields: dict[str, Any] = {}
    for member in members:
        if member.size > 8 * LONGEST_FIELD:
            raise InputError(f"{member.name!r} beside it has {member.size:,} bytes, too many for a caption")
        try:
            text = _slice(stream, member.offset_data, member.size).decode()
            content = {"caption": text.strip()} if member.name.lower().endswith(".txt") else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{member.name!r} beside it cannot be read: {_one_line(error)}") from error
        if not isinstance(content, dict):
            raise InputError(f"{member.name!r} beside it holds a {type(content).__name__}, not a JSON object")
        fields.update(_fields(content))
    return fields


def _read_slice(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as stream:
        return _slice(stream, offset, size)


def _slice(stream: Any, offset: int, size: int) -> bytes:
    stream.seek(offset)
    content: bytes = stream.read(size)
    return content


def _one_line(error: Exception) -> str:
    """An error's message in one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:300] or type(error).__name__
