"""What a comparison may be given from outside: reference pictures by the addresses in a prompt file, and SSCD as one more judge."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from steerclear.encoders.base import Encoder
from steerclear.encoders.pretrained import SscdEncoder
from steerclear.errors import InputError
from steerclear.library import Library, Source, add
from steerclear.pixels import fit, to_tensor
from steerclear_lab.bench.prompt_files import Row

URLS = "urls"  # in the place of a folder of references
SECONDS = 30  # that an address has to answer
MOST_BYTES = 64 << 20
SCHEMES = ("http://", "https://")
SSCD_COPY = 0.5  # the cosine from which SSCD's authors call two pictures copies


def addressed(rows: Iterable[Row]) -> list[Source]:
    """The pictures that a prompt file names by URL, each once, to be fetched when they are read, with their prompts as captions.

    Raises InputError where no row has a URL, and for one that is not http or https.
    """
    found = {row.url: row.prompt for row in rows if row.url}
    if not found:
        raise InputError(
            f"no prompt has a URL to fetch its picture from; give a folder in the place of {URLS!r}"
        )
    for url in found:
        if not url.lower().startswith(SCHEMES):
            raise InputError(f"{url!r} is no address of http or https")
    return [Source(url, partial(_read, url), {"caption": prompt}) for url, prompt in found.items()]


def shelved(library: Library, pictures: Sequence[Path | Source], encoder: Encoder) -> list[tuple[str, str]]:
    """Add reference pictures; (name, reason) of those that could not be had. Raises InputError where there is none at all."""
    known = {item.source for item in library.items()}  # what was fetched once is not fetched again
    fresh = [p for p in pictures if not (isinstance(p, Source) and p.ref in known)]
    report = add(library, fresh, [encoder])
    if not len(library):
        why = f": {report.failed[0][0]}, {report.failed[0][1]}" if report.failed else ""
        raise InputError(f"there are no reference pictures{why}; give the folder of the references")
    return list(report.failed)


def _read(url: str) -> bytes:
    asked = urllib.request.Request(url, headers={"User-Agent": "steerclear"})
    with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
        content: bytes = answer.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES >> 20} MB")
    return content


@dataclass(frozen=True)
class SscdJudge:
    """SSCD's cosine with the nearest reference picture: a judge that no method sees. vectors: (N, D) of the references."""

    encoder: SscdEncoder
    vectors: Tensor

    @classmethod
    def of(cls, file: Path, pictures: Sequence[Path | Source], work: Path) -> SscdJudge:
        """From its authors' TorchScript file. work: where the references' vectors are kept."""
        encoder = SscdEncoder.load(file, f"sscd:{file.name}")
        library = Library.open_or_create(work / "sscd", [encoder])
        shelved(library, pictures, encoder)
        return cls(encoder, library.vectors(encoder.name)[1])

    @torch.no_grad()
    def __call__(self, image: Image.Image) -> float:
        pixels = fit(to_tensor([image]), self.encoder.size)
        return float((self.encoder(pixels).cpu() @ self.vectors.T).max())
