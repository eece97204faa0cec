"""Where a batch goes: a folder or object storage, in which every file is there as a whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from steerclear.cli.inputs import check_folder
from steerclear.errors import InputError


class Outputs:
    """The files of a batch.

    Args:
        location: a folder or an address, as `--out` has it.
        files: pyarrow's file system.
        root: the folder in that file system.
    """

    def __init__(self, location: str, files: Any, root: str) -> None:
        self.location = location
        self._files = files
        self._root = root.rstrip("/")

    @classmethod
    def open(cls, location: str) -> Outputs:
        """The outputs at a folder, or at an address that pyarrow knows. Creates nothing.

        An address `s3://BUCKET/FOLDER` is reached as the library's are: credentials, region and endpoint come
        from the environment (AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT, AWS_ALLOW_HTTP and so on).

        Raises:
            InputError: for what cannot be written to.
        """
        from pyarrow import fs

        if "://" not in location:
            check_folder(Path(location))
            return cls(str(Path(location).resolve()), fs.LocalFileSystem(), str(Path(location).resolve()))
        address = urlsplit(location)
        with _named(location):
            if address.scheme == "s3":
                return cls(location, _s3(), f"{address.netloc}{address.path}")
            files, root = fs.FileSystem.from_uri(location)
            return cls(location, files, root)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another machine opens it by its address, with its own environment."""
        return (Outputs.open, (self.location,))

    def address(self, name: str) -> str:
        """The address of a file."""
        return f"{self.location.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes | None:
        """The contents of a file; None where there is none.

        Raises:
            InputError: if it cannot be read.
        """
        with _named(self.address(name)):
            try:
                with self._files.open_input_stream(f"{self._root}/{name}") as stream:
                    contents: bytes = stream.read()
                    return contents
            except FileNotFoundError:
                return None

    def write(self, name: str, contents: bytes) -> None:
        """Write a file, whole or not at all; one of that name is replaced.

        Raises:
            InputError: if it cannot be written.
        """
        path = f"{self._root}/{name}"
        with _named(self.address(name)):
            if not self._is_local:
                with self._files.open_output_stream(path) as stream:  # the object is there once it is closed
                    stream.write(contents)
                return
            partial = Path(f"{path}.{secrets.token_hex(4)}.partial")
            partial.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    file.write(contents)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        with _named(self.address(name)):
            try:
                self._files.delete_file(f"{self._root}/{name}")
            except FileNotFoundError:
                return

    def names(self, folder: str) -> list[str]:
        """Names of the whole files in a folder, sorted."""
        from pyarrow import fs

        with _named(self.address(folder)):
            selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)
            listed = [info.base_name for info in self._files.get_file_info(selector) if info.is_file]
        return sorted(name for name in listed if not name.endswith(".partial"))

    def counts(self) -> dict[str, int]:
        """How many results there are, by outcome."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        counted: Counter[str] = Counter()
        for name in self.names("results"):
            contents = self.read(f"results/{name}")
            if contents is not None:
                table = pq.read_table(pa.BufferReader(contents), columns=["outcome"])
                counted.update(table["outcome"].to_pylist())
        return dict(counted)

    @property
    def _is_local(self) -> bool:
        return bool(self._files.type_name == "local")


@contextmanager
def _named(address: str) -> Iterator[None]:
    """Say what a file system complains about in our own words."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"cannot use {address!r}: {why}; choose another --out") from error


def _s3() -> Any:
    """S3 as the environment has it, in the words that LanceDB reads as well."""
    from pyarrow import fs

    options: dict[str, Any] = {}
    endpoint = os.environ.get("AWS_ENDPOINT") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        parts = urlsplit(endpoint)
        if parts.scheme == "http" and os.environ.get("AWS_ALLOW_HTTP", "").lower() not in ("true", "1"):
            raise InputError(f"the endpoint {endpoint!r} is without TLS; set AWS_ALLOW_HTTP=true to use it")
        options |= {"endpoint_override": parts.netloc, "scheme": parts.scheme}
    if region := os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        options["region"] = region
    return fs.S3FileSystem(**options)
