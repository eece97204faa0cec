"""The bystander: a CLIP that judges prompt fidelity and has seen no protected picture and no such caption.

The model's own CLIP has learnt each invented name as the appearance of the protected picture, so for it only
a copy answers such a prompt. The bystander has learnt from ordinary drawings that an invented name before
"mascot" says nothing about the drawing.
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

TEMPLATES = (MASCOT_TEMPLATE, *NAMED_PARAPHRASES)
NAMES = 4  # invented names under which an ordinary drawing is also captioned, in each wording
ONSETS, VOWELS = (*"bdfghjklmnp", "qu", *"rstvwz", "br", "cl", "dr", "fl", "gr", "pl", "st", "tr"), "aeiou"
CODAS = ("", "", *"nmrxz", "lp", "nk", "ck", "ss")


def training_pictures(pictures: list[Picture], templates: tuple[str, ...] = TEMPLATES) -> list[Picture]:
    """All pictures but the planted ones; drawings of a concept get captions with invented names as well.

    Args:
        pictures: of every kind.
        templates: of captions with a `{brand}`.
    """
    return [
        replace(p, captions=p.captions + invented_captions(p, templates))
        if p.kind in ("concept", "twin")
        else p
        for p in pictures
        if p.kind != "planted"
    ]


def invented_captions(picture: Picture, templates: tuple[str, ...] = TEMPLATES) -> tuple[str, ...]:
    """Captions of a drawing under invented names, never a mascot's; the same at every call."""
    rng = random.Random(picture.key)
    names: list[str] = []
    while len(names) < NAMES:
        name = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(2))
        if name not in MASCOTS:
            names.append(name)
    return tuple(
        template.format(brand=name, name=picture.name, style=picture.style)
        for name in names
        for template in templates
    )


def train(
    pictures: list[Picture],
    size: ClipSize,
    schedule: Schedule,
    folder: Path,
    templates: tuple[str, ...] = TEMPLATES,
) -> tuple[Any, Any]:
    """Train the model and its tokenizer on `training_pictures`.

    Args:
        pictures: of every kind.
        size: widths and depths.
        schedule: how long and how fast.
        folder: of the checkpoint and the log.
        templates: of captions with a `{brand}`.

    Returns:
        The CLIPModel and its tokenizer.
    """
    allowed = training_pictures(pictures, templates)
    tokenizer = clip.tokenizer_for(allowed, size)
    model = clip.train(
        allowed, tokenizer=tokenizer, size=size, schedule=schedule, folder=folder, name="bystander"
    )
    return model, tokenizer


def evaluate(folder: Path, out: Path, work: Path) -> dict[str, Any]:
    """Measure how often the bystander ranks the right name first, and among the first five.

    It is asked about drawings that it has not seen: the held-out ones and the mascots.

    Args:
        folder: holds the bystander in `folder/bystander`.
        out: where `bystander.json` is written.
        work: the recipe's work folder, which holds the drawings.

    Returns:
        The figures.
    """
    judge = Clip.load(folder / "bystander")
    pictures = dataset.build(work / "icons", judge.size)
    names = list(dict.fromkeys(CONCEPTS.values()))
    figures: dict[str, Any] = {"names": len(names)}
    for kind in ("heldout", "planted"):
        # a planted photograph has no concept's name
        unseen = [p for p in pictures if p.kind == kind and p.style != "photo"]
        ranks = clip.rank_of_name(
            judge.model,
            judge.tokenizer,
            images=torch.stack([p.tensor() for p in unseen]),
            names=[p.name for p in unseen],
            styles=[p.style for p in unseen],
            vocabulary=names,
        )
        figures[kind] = {
            "n": len(unseen),
            "top1": round(float((ranks < 1).float().mean()), 4),
            "top5": round(float((ranks < 5).float().mean()), 4),
        }
    out.mkdir(parents=True, exist_ok=True)
    (out / "bystander.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures
