"""SSCD as one more judge of copies, from the file that its authors publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from steerclear.encoders.pretrained import SscdEncoder
from steerclear.library import Library, Source
from steerclear.pixels import fit, to_tensor
from steerclear_lab.bench.reference_pictures import add_references

SSCD_COPY = 0.5  # the cosine from which SSCD's authors call two pictures copies


@dataclass(frozen=True)
class SscdJudge:
    """SSCD's cosine with the nearest reference picture: a judge that no method sees.

    Attributes:
        encoder: SSCD.
        vectors: (N, D), unit vectors of the references.
    """

    encoder: SscdEncoder
    vectors: Tensor

    @classmethod
    def of(cls, file: Path, pictures: Sequence[Path | Source], work: Path) -> SscdJudge:
        """Load the judge.

        Args:
            file: its authors' TorchScript file.
            pictures: the references.
            work: a folder where their vectors are kept.
        """
        encoder = SscdEncoder.load(file, f"sscd:{file.name}", trust=True)
        library = Library.open_or_create(work / "sscd", [encoder])
        add_references(library, pictures, encoder)
        return cls(encoder, library.vectors(encoder.name)[1])

    @torch.no_grad()
    def __call__(self, picture: Image.Image) -> float:
        """The cosine of a picture with the nearest reference, in [-1, 1]."""
        pixels = fit(to_tensor([picture]), self.encoder.size)
        return float((self.encoder(pixels).cpu() @ self.vectors.T).max())
