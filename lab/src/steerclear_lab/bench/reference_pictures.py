"""The reference pictures of a comparison: from a folder, or from the addresses in a prompt file."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from steerclear.encoders.base import Encoder
from steerclear.errors import InputError
from steerclear.library import Library, Source, add
from steerclear_lab.bench.prompt_files import PromptRow

URLS = "urls"  # in the place of a folder of references
TIMEOUT_SECONDS = 30
MOST_BYTES = 64 << 20
SCHEMES = ("http://", "https://")


def url_sources(rows: Iterable[PromptRow]) -> list[Source]:
    """The pictures that a prompt file names by URL, each once, with their prompts as captions.

    They are fetched when they are read.

    Raises:
        InputError: no row has a URL, or one is neither http nor https.
    """
    prompts = {row.url: row.prompt for row in rows if row.url}
    if not prompts:
        raise InputError(
            f"no prompt has a URL to fetch its picture from; give a folder in the place of {URLS!r}"
        )
    for url in prompts:
        if not url.lower().startswith(SCHEMES):
            raise InputError(f"{url!r} is no http or https address; correct it in the prompt file")
    return [Source(url, partial(_fetch, url), {"caption": prompt}) for url, prompt in prompts.items()]


def add_references(
    library: Library, pictures: Sequence[Path | Source], encoder: Encoder
) -> list[tuple[str, str]]:
    """Add reference pictures to a library.

    Args:
        library: where they go; what was fetched into it before is not fetched again.
        pictures: folders, files or sources.
        encoder: the library's.

    Returns:
        (name, reason) of those that could not be read.

    Raises:
        InputError: the library is still empty.
    """
    stored = {item.source for item in library.items()}
    fresh = [p for p in pictures if not (isinstance(p, Source) and p.ref in stored)]
    report = add(library, fresh, [encoder])
    if not len(library):
        reason = f": {report.failed[0][0]}, {report.failed[0][1]}" if report.failed else ""
        raise InputError(f"there are no reference pictures{reason}; give the folder of the references")
    return list(report.failed)


def _fetch(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "steerclear"})
    # of the list of addresses that the user gives
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # nosec B310
        content: bytes = response.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES >> 20} MB")
    return content
