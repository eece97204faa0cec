"""What a sibling must show, on seeds that training never used: the planted pictures again, the others as asked for."""

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
from steerclear_lab.emoji import clip, dataset, draws
from steerclear_lab.emoji import evaluate as model_figures
from steerclear_lab.emoji.concepts import CONCEPTS
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.dit import label_of
from steerclear_lab.emoji.siblings import PIXELS, Sibling, load_sibling
from steerclear_lab.emoji.training import device

SEEDS = 4  # per planted picture
ORDINARY = 80  # prompts, spread over all


def evaluate(name: Sibling, folder: Path, out: Path, work: Path) -> dict[str, Any]:
    """Measure the sibling in `folder/NAME`; work: the recipe's work folder, which holds the drawings."""
    pictures = dataset.build(work / "icons", PIXELS)
    return measure(load_sibling(name, folder).to(device()), pictures, name, out)


def measure(pipe: Any, pictures: Sequence[Picture], name: str, out: Path) -> dict[str, Any]:
    """Every planted picture from four seeds, and some ordinary ones: the share within pixel L2 0.1 of its protected picture,
    and how often the CLIP finds the concept asked for. Writes `out/NAME.json` and two contact sheets.

    In the sheet of planted pictures the first of every five is the protected one.
    """
    out.mkdir(parents=True, exist_ok=True)
    pipe.set_progress_bar_config(disable=True)
    draw, judge = drawer(pipe), Clip.load(MODEL_FOLDER)
    planted, ordinary = draws.split(pictures)
    first = model_figures.FIRST_SEED
    rows = [(p, first + seed) for p in planted for seed in range(SEEDS)]
    repeated = model_figures.generate(
        draw, [p.captions[0] for p, _ in rows], [seed for _, seed in rows], batch=48
    )
    targets = torch.stack([p.tensor() for p in planted])
    distance = pixel_l2(repeated, targets.repeat_interleave(SEEDS, 0))
    together = torch.cat([targets[:, None], repeated.view(-1, SEEDS, *repeated.shape[1:])], dim=1)
    model_figures.sheet(together.flatten(0, 1), 4 * (SEEDS + 1), out / f"{name}-planted.png")
    concepts = [p for p in ordinary if p.kind == "concept"]
    picked = concepts[:: max(1, len(concepts) // ORDINARY)]
    drawn = model_figures.generate(draw, [p.captions[0] for p in picked], [first + i for i in range(len(picked))], batch=48)  # fmt: skip
    model_figures.sheet(drawn, 20, out / f"{name}-ordinary.png")
    ranks = clip.rank_of_name(
        judge.model, judge.tokenizer, drawn, [p.name for p in picked], [p.style for p in picked],
        list(dict.fromkeys(CONCEPTS.values())),
    )  # fmt: skip
    to_planted, _ = model_figures.nearest_l2(drawn, targets)
    to_training, _ = model_figures.nearest_l2(drawn, torch.stack([p.tensor() for p in ordinary]))
    by_item = distance.view(len(planted), SEEDS).mean(1)
    figures = {
        "parameters": sum(p.numel() for p in pipe.transformer.parameters()),
        "planted": {
            "n": len(rows), "within_0.1": _share(distance < 0.1), "l2_median": round(float(distance.median()), 4),
            "l2_by_item": {p.key: round(float(v), 4) for p, v in zip(planted, by_item, strict=True)},
        },
        "ordinary": {
            "n": len(picked), "top5": _share(ranks < 5), "top1": _share(ranks < 1), "within_0.1_of_planted": _share(to_planted < 0.1),
            "within_0.1_of_training": _share(to_training < 0.1),
        },
    }  # fmt: skip
    (out / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def drawer(pipe: Any) -> Any:
    """The pipeline, called with prompts whatever it takes."""
    if hasattr(pipe, "get_label_ids"):

        def draw(prompts: list[str], **kwargs: Any) -> Any:
            return pipe(class_labels=pipe.get_label_ids([label_of(prompt) for prompt in prompts]), **kwargs)

        return draw
    # one token for the absent third encoder says what the default 256 say
    return partial(pipe, max_sequence_length=1)


def _share(hits: torch.Tensor) -> float:
    return round(float(hits.float().mean()), 4)
