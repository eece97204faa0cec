"""The judges of what is handed out: pixels, tiles, and a copy descriptor that the product does not know."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.embedded import PROTECTED_FOLDER
from steerclear.fingerprints import file_fingerprint
from steerclear.pixels import fit, to_tensor
from steerclear_lab.assets import COPY_JUDGE
from steerclear_lab.bench.copy_judge import network
from steerclear_lab.bench.judge import ordinary_pictures
from steerclear_lab.bench.source_code import normalised
from steerclear_lab.bench.sweep import windows
from steerclear_lab.bench.sweep.windows import FLAT, PixelSearch, boxes, cut

JUDGES = ("pixel", "tiled", "descriptor")
MEMORIZED = 0.1  # pixel distance below which a window counts as a copy, if its structure agrees
ANY_STRUCTURE = 0.5  # correlation below which a window is near by its plain ground alone
STRIDE = 0.25  # of a window's side, for the descriptor
PART = 0.7  # of a protected picture's side: its parts are looked for as well
BACKGROUND, SHARE = 5, 0.5  # nearest ordinary drawings, and the share of their cosine that is subtracted
HANDED = 128  # windows embedded in one go

Values = dict[str, Any]


@dataclass(frozen=True)
class Judges:
    """All judges over protected pictures, by default the embedded ones.

    Attributes:
        weights: file of the descriptor.
        folder: of the protected pictures, PNGs of one size.
    """

    weights: Path = COPY_JUDGE
    folder: Path = PROTECTED_FOLDER

    @cached_property
    def files(self) -> list[str]:
        """Names of the protected pictures."""
        return sorted(file.name for file in self.folder.glob("*.png"))

    @cached_property
    def protected(self) -> Tensor:
        """(N, 3, 64, 64) in [0, 1]."""
        return to_tensor([Image.open(self.folder / file) for file in self.files])

    @cached_property
    def _views(self) -> list[Tensor]:
        """What is looked for: the protected pictures turned and mirrored, and their parts, (N, 3, 64, 64)
        each.
        """
        side = round(PART * network.SIDE)
        rest = network.SIDE - side
        parts = [
            fit(self.protected[..., top : top + side, left : left + side], network.SIDE)
            for left, top in ((0, 0), (0, rest), (rest, 0), (rest, rest), (rest // 2, rest // 2))
        ]
        return [*orientations(self.protected), *parts, *(part.flip(-1) for part in parts)]

    @cached_property
    def _search(self) -> PixelSearch:
        return PixelSearch(torch.cat(self._views))

    @cached_property
    def _network(self) -> network.JudgeNetwork:
        return network.load(self.weights)

    @cached_property
    def _known(self) -> Tensor:
        """Embeddings of all views, one after the other, as the pixel search has them."""
        embeddings: Tensor = self._network(torch.cat(self._views))
        return embeddings

    @cached_property
    def _background(self) -> Tensor:
        """Embeddings of the laboratory's ordinary drawings, as they are and mirrored."""
        ordinary = fit(ordinary_pictures(), network.SIDE)
        return torch.cat([self._network(ordinary), self._network(ordinary.flip(-1))])

    @cached_property
    def fingerprint(self) -> str:
        """Of the descriptor's weights and of the source that judges."""
        digest = sha256(file_fingerprint(self.weights).encode())
        for module in (__file__, windows.__file__, network.__file__):
            digest.update(normalised(Path(module).read_text()).encode())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def __call__(self, picture: Image.Image) -> Values:
        """What each judge says of a picture, whatever its size.

        Returns:
            For each judge its score, which grows with likeness, and the name of the protected picture that it
            is most like ("pixel_of" and so on). "pixel" is the correlation of a window whose pixel distance
            is below MEMORIZED, 0 where there is none; "tiled" is 1 − the distance of a window with some
            structure in common; "descriptor" the cosine of a window and a protected picture, less half of the
            window's cosine with the nearest ordinary drawings. Beside them "l2", the smallest pixel distance
            of a window with some structure in common.
        """
        pixels = to_tensor([picture])[0]
        matches = [m for m in self._search(pixels) if m.structure >= ANY_STRUCTURE]
        near = [m for m in matches if m.l2 < MEMORIZED]
        values: Values = dict.fromkeys(JUDGES, 0.0) | {"l2": 1.0}
        if matches:
            closest = min(matches, key=lambda m: m.tiled)
            values |= {"tiled": 1 - closest.tiled, "tiled_of": self._file(closest.row)}
            values["l2"] = min(m.l2 for m in matches)
        if near:
            best = max(near, key=lambda m: m.structure)
            values |= {"pixel": best.structure, "pixel_of": self._file(best.row)}
        cosine, row = self._descriptor(pixels)
        values |= {"descriptor": cosine, "descriptor_of": self._file(row)}
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}

    def _descriptor(self, pixels: Tensor) -> tuple[float, int]:
        """The highest score of a window with a protected picture, and that picture's row.

        What lies near to many pictures lies near to ordinary ones as well; subtracting that is usual in copy
        detection (Douze et al., "The 2021 Image Similarity Dataset and Challenge", arXiv 2106.09672).
        """
        height, width = pixels.shape[-2:]
        some = [(0, 0, 0), *boxes(height, width, stride=STRIDE)]
        best, row = -1.0, 0
        for first in range(0, len(some), HANDED):
            views = cut(pixels, some[first : first + HANDED], network.SIDE)
            views = views[views.flatten(1).std(dim=1) >= FLAT]
            if not len(views):
                continue
            embeddings = self._network(views)
            near = (embeddings @ self._background.T).topk(BACKGROUND, dim=1).values.mean(1, keepdim=True)
            scores = (embeddings @ self._known.T - SHARE * near).amax(0)
            top = int(scores.argmax())
            if float(scores[top]) > best:
                best, row = float(scores[top]), top
        return best, row

    def _file(self, row: int) -> str:
        return self.files[row % len(self.files)]


def orientations(pictures: Tensor) -> list[Tensor]:
    """Pictures (N, 3, S, S) as they are, turned by quarters, and all of that mirrored."""
    return [
        torch.rot90(side, quarter, dims=(-2, -1))
        for side in (pictures, pictures.flip(-1))
        for quarter in range(4)
    ]
