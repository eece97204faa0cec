"""Forms with files, as `multipart/form-data` brings them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.datastructures import FormData, UploadFile

from steerclear.serve.errors import check_texts, wrong_content_type

MOST_FILES = 64
MOST_FIELDS = 64


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The form of a request; its temporary files are gone when the block ends.

    Raises:
        ApiError: 415 for another content type, 400 for a text that is no valid Unicode.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise wrong_content_type(kind, "multipart/form-data")
    async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
        for name, value in form.multi_items():
            check_texts({name: value if isinstance(value, str) else value.filename})
        yield form


async def files_of(form: FormData, name: str) -> list[bytes]:
    """The bytes of all files under a name, or under the same with [] as clients write lists."""
    return [await file.read() for _, file in uploads_of(form, name)]


def uploads_of(form: FormData, name: str) -> list[tuple[str, UploadFile]]:
    """All files under a name, or under the same with [], with their own names."""
    return [
        (value.filename or name, value)
        for key, value in form.multi_items()
        if key in (name, f"{name}[]") and isinstance(value, UploadFile)
    ]
