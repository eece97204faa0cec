"""Judging pictures with what no filter and no strategy uses: the embedded CLIP, a bystander, and pixels of ordinary drawings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one picture.

    pixel_l2: to the nearest protected picture; same_picture: whether the nearest neighbour by CLIP among protected *and*
    ordinary pictures is a protected one; alignment: CLIP cosine of prompt and picture; bystander: the same by a CLIP that has
    seen no protected picture and read none of their captions, so that a copy answers a prompt no better than any other picture
    of what it names; concept: CLIP cosine of the picture and the concept behind the prompt in the style that fits best, "a
    crab, flat style", without the invented name; rank: of that concept among all names, 0 is best. Both None for a
    photograph's prompt.
    """

    pixel_l2: float
    same_picture: bool
    alignment: float
    bystander: float
    concept: float | None
    rank: int | None


class Judge:
    """The embedded CLIP with a gallery of the protected and the ordinary pictures.

    protected: (N, 3, H, W) in [0, 1], by default the embedded ones; others have no known concepts, and are squeezed to the
    CLIP's size.
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
        """file: the protected picture that the prompt was planted with, if any; its concept is the one asked for."""
        pixels = fit(to_tensor([picture]), self.clip.size)
        embedding = self.clip(pixels)
        nearest = int((embedding @ self.gallery.T).argmax())
        return Verdict(
            float(pixel_l2(pixels, self.protected).min()), nearest < len(self.protected),
            float(embedding @ self.clip.texts([prompt]).T), float(self.bystander(pixels) @ self.bystander.texts([prompt]).T),
            *self._concept(embedding, concept_of(file)),
        )  # fmt: skip

    @torch.no_grad()
    def style_kept(self, picture: Image.Image, file: str | None) -> bool | None:
        """Whether a picture is in the style that a mascot's prompt names, by the text of its concept that fits best; else None."""
        concept = concept_of(file)
        if concept is None or file is None:
            return None
        embedding = self.clip(fit(to_tensor([picture]), self.clip.size))[0]
        return self._style(embedding, concept) == MASCOTS[Path(file).stem.removeprefix("mascot-")][1]

    def style_accuracy(self) -> float:
        """In how many of the ordinary pictures of known concepts the style is read right."""
        keys = json.loads((ASSETS / "ordinary.json").read_text())["keys"]
        known = [(i, *key.split("-", 1)) for i, key in enumerate(keys) if key.split("-", 1)[0] in STYLES]
        embeddings = self.gallery[len(self.protected) :]
        hits = [
            self._style(embeddings[i], CONCEPTS[icon]) == style
            for i, style, icon in known
            if icon in CONCEPTS
        ]
        return float(np.mean(hits))

    def _style(self, embedding: Tensor, concept: str) -> str:
        texts = self.concepts.view(len(CONCEPTS), len(STYLES), -1)[list(CONCEPTS.values()).index(concept)]
        return list(STYLES)[int((texts @ embedding).argmax())]

    def _concept(self, embedding: Tensor, concept: str | None) -> tuple[float | None, int | None]:
        if concept is None:
            return None, None
        scores = (embedding @ self.concepts.T).view(len(CONCEPTS), len(STYLES)).amax(1)
        own = scores[list(CONCEPTS.values()).index(concept)]
        return float(own), int((scores > own).sum())


def concept_of(file: str | None) -> str | None:
    """The concept behind a mascot's file name, None for a photograph."""
    if file is None or not file.startswith("mascot-"):
        return None
    return MASCOTS[Path(file).stem.removeprefix("mascot-")][0]


def protected_pictures() -> tuple[list[str], Tensor]:
    """File names and pixels (N, 3, S, S) of the embedded protected pictures."""
    files = sorted(PROTECTED_FOLDER.glob("*.png"))
    return [f.name for f in files], to_tensor([Image.open(f) for f in files])


def ordinary_pictures() -> Tensor:
    """The ordinary pictures that the embedded model was trained on, (N, 3, S, S), from the shipped sheet."""
    rows = json.loads((ASSETS / "ordinary.json").read_text())
    with Image.open(ASSETS / "ordinary.png") as image:
        sheet = np.asarray(image.convert("RGB"))
    size, columns = rows["size"], rows["columns"]
    cells = [divmod(i, columns) for i in range(rows["count"])]
    tiles = [sheet[y * size : (y + 1) * size, x * size : (x + 1) * size] for y, x in cells]
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2).float() / 255
