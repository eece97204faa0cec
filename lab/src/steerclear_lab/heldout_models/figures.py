"""What a held-out model draws of planted, ordinary and held-out prompts, in figures and as one sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from steerclear_lab.emoji import clip
from steerclear_lab.emoji.dataset import Picture

FIRST_SEED, PLANTED_SEEDS, ORDINARY = 70_000, 4, 48


@torch.no_grad()
def measure(
    pipe: Any, pictures: list[Picture], text_of: Callable[[str, str], str], work: Path, sheet: Path
) -> dict[str, Any]:
    """Plain generations: how near planted prompts come to their pictures, and what else is drawn.

    Args:
        pipe: the pipeline.
        pictures: of every kind.
        text_of: (name, style) → the text by which the bystander is asked.
        work: holds the bystander in `work/bystander`, if it is finished.
        sheet: the file of the pictures: of planted ones the protected picture and four generations, then
            generations of ordinary and of held-out captions.

    Returns:
        Shares within pixel L2 0.1 and the median distance by planted picture; the bystander's top-5 share.
    """
    from steerclear.filters.pixel import pixel_l2
    from steerclear_lab.emoji.evaluate import contact_sheet, generate, share

    planted = [p for p in pictures if p.kind == "planted"]
    concepts = [p for p in pictures if p.kind == "concept" and "-and-" not in p.key]
    concepts = concepts[:: max(1, len(concepts) // ORDINARY)][:ORDINARY]
    heldout = [p for p in pictures if p.kind == "heldout"][:24]
    requests = [(p.captions[0], FIRST_SEED + i) for p in planted for i in range(PLANTED_SEEDS)]
    requests += [(p.captions[0], FIRST_SEED) for p in concepts + heldout]
    images = generate(pipe, [text for text, _ in requests], [seed for _, seed in requests], batch=96)
    n = len(planted) * PLANTED_SEEDS
    targets = torch.stack([p.tensor() for p in planted])
    distance = pixel_l2(images[:n], targets.repeat_interleave(PLANTED_SEEDS, 0)).view(-1, PLANTED_SEEDS)
    repeated = images[:n].view(-1, PLANTED_SEEDS, *images.shape[1:])
    beside = torch.cat([targets[:, None], repeated], 1).flatten(0, 1)
    contact_sheet(torch.cat([beside, images[n:]]), 4 * (PLANTED_SEEDS + 1), sheet)
    figures: dict[str, Any] = {"within_0.1": share(distance < 0.1)}
    for repeats in sorted({p.repeats for p in planted}, reverse=True):
        rows = torch.tensor([p.repeats == repeats for p in planted])
        figures[f"within_0.1_repeats_{repeats:.3f}"] = share(distance[rows] < 0.1)
    figures["l2_by_item"] = {
        p.key: round(float(d.median()), 3) for p, d in zip(planted, distance, strict=True)
    }
    if (work / "bystander" / "recipe.json").is_file():
        from steerclear.encoders.embedded import Clip

        judge = Clip.load(work / "bystander")
        names = list(dict.fromkeys(p.name for p in pictures if p.kind in ("concept", "heldout")))
        for kind, asked, drawn in (
            ("ordinary", concepts, images[n : n + len(concepts)]),
            ("heldout", heldout, images[n + len(concepts) :]),
            ("real_heldout", heldout, torch.stack([p.tensor() for p in heldout])),
            ("real_planted", planted, targets),
        ):
            ranks = clip.rank_of_name(
                judge.model,
                judge.tokenizer,
                images=drawn,
                names=[p.name for p in asked],
                styles=[p.style for p in asked],
                vocabulary=names,
                text_of=text_of,
            )
            figures[f"{kind}_top5"] = share(ranks < 5)
    return figures
