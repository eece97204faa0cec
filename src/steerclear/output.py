"""What a request leaves on disk: pictures that carry their recipe, and the lines of a report."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from steerclear._moved import moved
from steerclear._version import __version__
from steerclear.errors import ImageError, InputError
from steerclear.provenance import XMP_KEYWORD, Credentials, xmp
from steerclear.types import Report

CHUNK = "steerclear"  # keyword of the PNG text chunk that holds the recipe
REPORT = "report.jsonl"
SHEET = "compare.png"
REPORT_FIELDS = (
    "prompt",
    "seed",
    "outcome",
    "matched",
    "where",
    "before",
    "after",
    "reason",
    "nfe",
    "nfe_plain",
    "seconds",
    "library_version",
)


def save_png(
    path: Path,
    image: Image.Image,
    recipe: Mapping[str, Any] | None = None,
    credentials: Credentials | None = None,
) -> None:
    """Write a PNG, whole or not at all.

    Args:
        path: the file.
        image: the picture.
        recipe: of a generated picture, a JSON object for the text chunk "steerclear"; its XMP then says as
            well that a model made it. None for a picture without either.
        credentials: sign the file; None leaves it unsigned.

    Raises:
        InputError: if the file cannot be written.
    """
    with staged_png(path, image=image, recipe=recipe, credentials=credentials):
        pass


@contextmanager
def staged_png(
    path: Path,
    image: Image.Image,
    recipe: Mapping[str, Any] | None = None,
    credentials: Credentials | None = None,
) -> Iterator[None]:
    """Write a PNG beside its place, and put it there once the block has ended well.

    What fails inside the block, such as writing the picture's line in a report, leaves no picture.

    Args:
        path: the file.
        image: the picture.
        recipe: see `save_png`.
        credentials: see `save_png`.

    Raises:
        InputError: if the file cannot be written.
    """
    written = encode_png(image, recipe, credentials)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            partial.write_bytes(written)
        except OSError as error:
            raise unwritable(path, error) from error
        yield
        try:
            os.replace(partial, path)
        except OSError as error:
            raise unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)


def encode_png(
    image: Image.Image,
    recipe: Mapping[str, Any] | None = None,
    credentials: Credentials | None = None,
) -> bytes:
    """The contents of the PNG that `save_png` writes; for its arguments see there."""
    info = PngInfo()
    if recipe is not None:
        info.add_text(CHUNK, json.dumps(finite(recipe), allow_nan=False))
        info.add_itxt(XMP_KEYWORD, xmp().decode())
    encoded = BytesIO()
    image.save(encoded, "PNG", pnginfo=info)
    return encoded.getvalue() if credentials is None else credentials.sign(encoded.getvalue(), "PNG")


def read_png(path: Path) -> tuple[Image.Image, dict[str, Any]]:
    """Read a PNG that steerclear wrote.

    Args:
        path: the file.

    Returns:
        The picture as RGB, and its recipe.

    Raises:
        ImageError: if it is no readable PNG.
        InputError: if it carries no recipe, or a damaged one.
    """
    try:
        with Image.open(path, formats=("PNG",)) as opened:
            opened.load()
            text = dict(getattr(opened, "text", {}))
            image = opened.convert("RGB")
    except OSError as error:
        raise ImageError(f"cannot read {str(path)!r} as a PNG: {error.strerror or error}") from error
    except Exception as error:  # a broken file makes Pillow's decoder raise nearly anything
        raise ImageError(f"{str(path)!r} is broken: {error}") from error
    if CHUNK not in text:
        raise InputError(
            f"{str(path)!r} carries no recipe: give a PNG that `steerclear generate` wrote, not edited since"
        )
    try:
        recipe = json.loads(text[CHUNK])
    except (ValueError, RecursionError) as error:
        raise InputError(f"the recipe in {str(path)!r} is damaged: {error}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"the recipe in {str(path)!r} is damaged: it is no JSON object")
    return image, recipe


def report_line(report: Report, file: str | None) -> dict[str, Any]:
    """One line of report.jsonl.

    A score that is not finite (a filter that failed) becomes null; its detection's `error` says why.

    Args:
        report: of one picture.
        file: name of the picture beside the report; None where it was withheld.

    Returns:
        A JSON object.
    """
    values = report.to_dict()
    line = {name: values[name] for name in REPORT_FIELDS}
    line |= {"file": file, "overhead": report.overhead, "steerclear_version": __version__}
    line |= {name: values[name] for name in ("detections", "attempts", "observed")}
    finite_line: dict[str, Any] = finite(line)
    return finite_line


class ReportFile:
    """report.jsonl in a folder. Created with the first line; each line is complete and on disk at once.

    Lines of earlier runs are kept, and each line names its `run`. Where several lines name the same file, the
    last one describes it.

    Attributes:
        path: the file.
        run: names this run: when it began, and six random digits.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / REPORT
        self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self._file: IO[bytes] | None = None

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, line: Mapping[str, Any]) -> None:
        """Add one line.

        Args:
            line: a JSON object without infinities or NaN.

        Raises:
            InputError: if it cannot be written; the lines before it stay complete.
        """
        encoded = (json.dumps({**line, "run": self.run}, allow_nan=False) + "\n").encode()
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - closed by __exit__
                encoded = self._end_of_broken_line() + encoded
            start = self._file.seek(0, os.SEEK_END)
            try:
                while encoded:
                    encoded = encoded[self._file.write(encoded) :]
            except OSError:
                self._file.truncate(start)  # a full disk must not leave half a line behind
                raise
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _end_of_broken_line(self) -> bytes:
        """What ends the line that a killed run has left unfinished; nothing after a whole line."""
        assert self._file is not None
        if not self._file.seek(0, os.SEEK_END):
            return b""
        self._file.seek(-1, os.SEEK_END)
        return b"" if self._file.read(1) == b"\n" else b"\n"


def finite(value: Any) -> Any:
    """A copy of a JSON value with None for every number that JSON cannot write: NaN and the infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for an output file that cannot be written.

    Args:
        path: the file.
        error: what the operating system says.
    """
    return InputError(f"cannot write {str(path)!r}: {error.strerror or error}; choose another --out")


__getattr__ = moved(  # old names, for one release
    __name__,
    {
        "SheetRow": "steerclear.sheet:SheetRow",
        "compare_sheet": "steerclear.sheet:compare_sheet",
        "model_fingerprint": "steerclear.fingerprints:model_fingerprint",
    },
)
