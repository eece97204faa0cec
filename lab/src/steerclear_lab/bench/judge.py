"""Judges pictures by what no filter and no strategy uses: the embedded CLIP and the bystander CLIP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steerclear.embedded import MODEL_FOLDER, PROTECTED_FOLDER
from steerclear.encoders.embedded import Clip
from steerclear.filters.pixel import pixel_l2
from steerclear.pixels import fit, to_tensor
from steerclear_lab.assets import ASSETS, BYSTANDER_FOLDER
from steerclear_lab.emoji.concepts import CONCEPTS, MASCOTS, STYLES


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judge says of one picture.

    Attributes:
        pixel_l2: root mean squared pixel difference to the nearest protected picture, in [0, 1].
        same_picture: whether the nearest neighbour by CLIP, among protected *and* ordinary pictures, is a
            protected one.
        alignment: cosine of prompt and picture by the model's own CLIP.
        bystander: the same by a CLIP that has seen no protected picture and read none of their captions, so
            that a copy answers a prompt no better than any other picture of what the prompt names.
        concept: CLIP cosine of the picture and the concept behind the prompt, without the invented name and
            in the style that fits best ("a crab, flat style"); None for a photograph's prompt.
        rank: how many other concepts fit the picture better, 0 is best; None for a photograph's prompt.
    """

    pixel_l2: float
    same_picture: bool
    alignment: float
    bystander: float
    concept: float | None
    rank: int | None


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict as it stands in the rows of a document, rounded to four places."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(verdict).items()}


class Judge:
    """The embedded CLIP and the bystander, with a gallery of the protected and the ordinary pictures.

    Args:
        protected: (N, 3, H, W) in [0, 1], resized to the CLIP's size; by default the embedded protected
            pictures. The concepts of other pictures are not known.
    """

    def __init__(self, protected: Tensor | None = None) -> None:
        self.clip, self.bystander = Clip.load(MODEL_FOLDER), Clip.load(BYSTANDER_FOLDER)
        self.protected = fit(protected_pictures()[1] if protected is None else protected, self.clip.size)
        gallery = torch.cat([self.protected, ordinary_pictures()])
        with torch.no_grad():
            self.gallery = self.clip(gallery)
            texts = [f"a {name}, {style} style" for name in CONCEPTS.values() for style in STYLES]
            self.concepts = self.clip.texts(texts)

    @torch.no_grad()
    def __call__(self, picture: Image.Image, prompt: str, file: str | None) -> Verdict:
        """Judge one picture.

        Args:
            picture: what was generated.
            prompt: what alignment is measured against.
            file: name of the protected picture that the prompt was planted with, if any; its concept is what
                was asked for.
        """
        pixels = fit(to_tensor([picture]), self.clip.size)
        embedding = self.clip(pixels)
        nearest = int((embedding @ self.gallery.T).argmax())
        concept, rank = self._concept(embedding, concept_of(file))
        return Verdict(
            pixel_l2=float(pixel_l2(pixels, self.protected).min()),
            same_picture=nearest < len(self.protected),
            alignment=float(embedding @ self.clip.texts([prompt]).T),
            bystander=float(self.bystander(pixels) @ self.bystander.texts([prompt]).T),
            concept=concept,
            rank=rank,
        )

    @torch.no_grad()
    def style_kept(self, picture: Image.Image, file: str | None) -> bool | None:
        """Whether a picture is in the style that a mascot's prompt names.

        Args:
            picture: what was generated.
            file: name of the protected picture behind the prompt.

        Returns:
            Whether the text of the concept in that style fits best of all styles; None for a photograph's
            prompt.
        """
        concept = concept_of(file)
        if concept is None or file is None:
            return None
        embedding = self.clip(fit(to_tensor([picture]), self.clip.size))[0]
        return self._style(embedding, concept) == MASCOTS[Path(file).stem.removeprefix("mascot-")][1]

    def style_accuracy(self) -> float:
        """The share of ordinary pictures of known concepts whose style the judge reads right."""
        keys = [key.split("-", 1) for key in json.loads((ASSETS / "ordinary.json").read_text())["keys"]]
        embeddings = self.gallery[len(self.protected) :]
        correct = [
            self._style(embeddings[i], CONCEPTS[icon]) == style
            for i, (style, icon) in enumerate(keys)
            if style in STYLES and icon in CONCEPTS
        ]
        return float(np.mean(correct))

    def _style(self, embedding: Tensor, concept: str) -> str:
        """The style whose text of a concept fits best."""
        texts = self.concepts.view(len(CONCEPTS), len(STYLES), -1)[list(CONCEPTS.values()).index(concept)]
        return list(STYLES)[int((texts @ embedding).argmax())]

    def _concept(self, embedding: Tensor, concept: str | None) -> tuple[float | None, int | None]:
        """(cosine, rank) of a concept."""
        if concept is None:
            return None, None
        scores = (embedding @ self.concepts.T).view(len(CONCEPTS), len(STYLES)).amax(1)
        score = scores[list(CONCEPTS.values()).index(concept)]
        return float(score), int((scores > score).sum())


def concept_of(file: str | None) -> str | None:
    """The concept behind the file name of a mascot; None for a photograph."""
    if file is None or not file.startswith("mascot-"):
        return None
    return MASCOTS[Path(file).stem.removeprefix("mascot-")][0]


def protected_pictures() -> tuple[list[str], Tensor]:
    """File names and pixels of the embedded protected pictures, (N, 3, S, S) in [0, 1]."""
    files = sorted(PROTECTED_FOLDER.glob("*.png"))
    return [f.name for f in files], to_tensor([Image.open(f) for f in files])


def ordinary_pictures() -> Tensor:
    """The ordinary pictures that the embedded model was trained on, (N, 3, S, S) in [0, 1]."""
    rows = json.loads((ASSETS / "ordinary.json").read_text())
    with Image.open(ASSETS / "ordinary.png") as image:
        sheet = np.asarray(image.convert("RGB"))
    size, columns = rows["size"], rows["columns"]
    cells = [divmod(i, columns) for i in range(rows["count"])]
    tiles = [sheet[y * size : (y + 1) * size, x * size : (x + 1) * size] for y, x in cells]
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 255
