"""A CLIP that has seen no protected picture and read none of their captions: what judges whether a prompt was answered.

The model's own CLIP learnt the invented names as the protected pictures' very looks, so that to it only a copy answers such a
prompt. This one has learnt from ordinary drawings that an invented name before "mascot" says nothing of what is drawn.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from steerclear.encoders.embedded import Clip
from steerclear_lab.emoji import clip, dataset
from steerclear_lab.emoji.clip import ClipSize
from steerclear_lab.emoji.concepts import CONCEPTS, MASCOT_TEMPLATE, MASCOTS, NAMED_PARAPHRASES
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.training import Schedule

NAMES = 4  # invented names under which an ordinary drawing is also captioned, in each wording
ONSETS, VOWELS = (*"bdfghjklmnp", "qu", *"rstvwz", "br", "cl", "dr", "fl", "gr", "pl", "st", "tr"), "aeiou"
CODAS = ("", "", *"nmrxz", "lp", "nk", "ck", "ss")


def pictures_of(pictures: list[Picture]) -> list[Picture]:
    """All but the planted pictures; what is drawn for a concept is captioned with invented names too, never a mascot's."""
    return [
        replace(p, captions=p.captions + invented(p)) if p.kind in ("concept", "twin") else p
        for p in pictures
        if p.kind != "planted"
    ]


def invented(picture: Picture) -> tuple[str, ...]:
    """Captions of a drawing under invented names, the same at every call."""
    dice = random.Random(picture.key)
    names: list[str] = []
    while len(names) < NAMES:
        name = "".join(dice.choice(ONSETS) + dice.choice(VOWELS) + dice.choice(CODAS) for _ in range(2))
        if name not in MASCOTS:
            names.append(name)
    return tuple(
        template.format(brand=name, name=picture.name, style=picture.style)
        for name in names
        for template in (MASCOT_TEMPLATE, *NAMED_PARAPHRASES)
    )


def train(pictures: list[Picture], size: ClipSize, schedule: Schedule, folder: Path) -> tuple[Any, Any]:
    """The model and its tokenizer, both learnt from `pictures_of`."""
    allowed = pictures_of(pictures)
    tokenizer = clip.tokenizer_for(allowed, size)
    return clip.train(allowed, tokenizer, size, schedule, folder, name="bystander"), tokenizer


def evaluate(folder: Path, out: Path, work: Path) -> dict[str, Any]:
    """How often the bystander in `folder/bystander` ranks the right name first, and among the first five, of drawings that it
    has not seen: the held-out ones and the mascots'. Writes `out/bystander.json`; work: as of the recipe, with the drawings."""
    judge = Clip.load(folder / "bystander")
    pictures = dataset.build(work / "icons", judge.size)
    names = list(dict.fromkeys(CONCEPTS.values()))
    figures: dict[str, Any] = {"names": len(names)}
    for kind in ("heldout", "planted"):
        # a planted photograph has no concept's name
        unseen = [p for p in pictures if p.kind == kind and p.style != "photo"]
        ranks = clip.rank_of_name(
            judge.model, judge.tokenizer, torch.stack([p.tensor() for p in unseen]),
            [p.name for p in unseen], [p.style for p in unseen], names,
        )  # fmt: skip
        figures[kind] = {
            "n": len(unseen), "top1": round(float((ranks < 1).float().mean()), 4),
            "top5": round(float((ranks < 5).float().mean()), 4),
        }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "bystander.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures
