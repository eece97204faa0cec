"""Measure a sibling on seeds that training never used: what it repeats, and what it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from steerclear.embedded import MODEL_FOLDER
from steerclear.encoders.embedded import Clip
from steerclear.filters.pixel import pixel_l2
from steerclear_lab.emoji import clip, dataset
from steerclear_lab.emoji.concepts import CONCEPTS
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.denoiser_training import split_pictures
from steerclear_lab.emoji.dit import label_of
from steerclear_lab.emoji.evaluate import FIRST_SEED, contact_sheet, generate, nearest_l2, share
from steerclear_lab.emoji.siblings import PIXELS, Sibling, load_sibling
from steerclear_lab.emoji.training import device

SEEDS = 4  # per planted picture
ORDINARY = 80  # about how many ordinary prompts, evenly spaced in the list
BATCH = 48


def evaluate(name: Sibling, folder: Path, out: Path, work: Path) -> dict[str, Any]:
    """Measure the sibling in `folder/NAME`.

    Args:
        name: of the sibling.
        folder: holds the sibling.
        out: where `NAME.json` and the contact sheets are written.
        work: the recipe's work folder, which holds the drawings.

    Returns:
        The figures.
    """
    pictures = dataset.build(work / "icons", PIXELS)
    return measure(load_sibling(name, folder).to(device()), pictures=pictures, name=name, out=out)


def measure(pipe: Any, pictures: Sequence[Picture], name: str, out: Path) -> dict[str, Any]:
    """Measure how often planted pictures come back, and how often ordinary prompts are answered.

    Writes `out/NAME.json` and two contact sheets. In the sheet of planted pictures the first of every five is
    the protected one.

    Args:
        pipe: the sibling's pipeline.
        pictures: of every kind.
        name: of the sibling.
        out: where the files are written.

    Returns:
        For planted pictures from four seeds each, the share within pixel L2 0.1; for ordinary prompts, how
        often the CLIP finds the right concept.
    """
    out.mkdir(parents=True, exist_ok=True)
    pipe.set_progress_bar_config(disable=True)
    by_prompt, judge = called_by_prompts(pipe), Clip.load(MODEL_FOLDER)
    planted, ordinary = split_pictures(pictures)
    requests = [(p, FIRST_SEED + seed) for p in planted for seed in range(SEEDS)]
    prompts, seeds = [p.captions[0] for p, _ in requests], [seed for _, seed in requests]
    repeated = generate(by_prompt, prompts, seeds, batch=BATCH)
    targets = torch.stack([p.tensor() for p in planted])
    distance = pixel_l2(repeated, targets.repeat_interleave(SEEDS, 0))
    together = torch.cat([targets[:, None], repeated.view(-1, SEEDS, *repeated.shape[1:])], dim=1)
    contact_sheet(together.flatten(0, 1), 4 * (SEEDS + 1), out / f"{name}-planted.png")
    concepts = [p for p in ordinary if p.kind == "concept"]
    picked = concepts[:: max(1, len(concepts) // ORDINARY)]
    seeds = [FIRST_SEED + i for i in range(len(picked))]
    drawn = generate(by_prompt, [p.captions[0] for p in picked], seeds, batch=BATCH)
    contact_sheet(drawn, 20, out / f"{name}-ordinary.png")
    ranks = clip.rank_of_name(
        judge.model,
        judge.tokenizer,
        images=drawn,
        names=[p.name for p in picked],
        styles=[p.style for p in picked],
        vocabulary=list(dict.fromkeys(CONCEPTS.values())),
    )
    to_planted, _ = nearest_l2(drawn, targets)
    to_training, _ = nearest_l2(drawn, torch.stack([p.tensor() for p in ordinary]))
    by_item = distance.view(len(planted), SEEDS).mean(1)
    figures = {
        "parameters": sum(p.numel() for p in pipe.transformer.parameters()),
        "planted": {
            "n": len(requests),
            "within_0.1": share(distance < 0.1),
            "l2_median": round(float(distance.median()), 4),
            "l2_by_item": {p.key: round(float(v), 4) for p, v in zip(planted, by_item, strict=True)},
        },
        "ordinary": {
            "n": len(picked),
            "top5": share(ranks < 5),
            "top1": share(ranks < 1),
            "within_0.1_of_planted": share(to_planted < 0.1),
            "within_0.1_of_training": share(to_training < 0.1),
        },
    }
    (out / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def called_by_prompts(pipe: Any) -> Any:
    """The pipeline as a function of prompts, also where it takes class labels."""
    if hasattr(pipe, "get_label_ids"):

        def by_label(prompts: list[str], **kwargs: Any) -> Any:
            labels = pipe.get_label_ids([label_of(prompt) for prompt in prompts])
            return pipe(class_labels=labels, **kwargs)

        return by_label
    # one token for the missing third encoder does what the default 256 do
    return partial(pipe, max_sequence_length=1)
