"""Trains the judge as SSCD is trained (Pizzi et al., CVPR 2022): InfoNCE with an entropy term, and mixed
pictures whose positives are both their parts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from steerclear_lab.bench.copy_judge.network import JudgeNetwork
from steerclear_lab.bench.copy_judge.views import altered, mixed
from steerclear_lab.emoji.training import Schedule, TrainingRun, device

TEMPERATURE = 0.07
ENTROPY_WEIGHT = 1.0
SEED = 77
DRAWING_SHARE = 0.2  # of each batch from the laboratory's ordinary drawings
MIXED_SHARE = 0.25  # of the second views
SCHEDULE = Schedule(steps=1300, batch=96, rate=2e-3, warmup=80, weight_decay=0.02, ema=0.995)


def loss_of(embeddings: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """SSCD's loss (§3.2, §3.4).

    Args:
        embeddings: (N, D), of unit length.
        same: (N, N), true where two views share a picture; the diagonal is true.

    Returns:
        InfoNCE averaged over all positives, each against the negatives of its anchor; and the negative
        logarithm of the distance to the nearest other picture, averaged.
    """
    n = len(embeddings)
    similarity = embeddings @ embeddings.T
    itself = torch.eye(n, dtype=torch.bool)
    logits = similarity / TEMPERATURE
    negatives = logits.masked_fill(same, -1e4).logsumexp(1, keepdim=True)
    positive = same & ~itself
    each = torch.logaddexp(logits, negatives) - logits
    contrast = each[positive].mean()
    nearest = similarity.masked_fill(same, -1).amax(1)
    entropy = -0.5 * torch.log((2 - 2 * nearest).clamp(min=1e-4)).mean()
    return contrast, entropy


def train(free: Tensor, ordinary: Tensor, folder: Path, schedule: Schedule = SCHEDULE) -> JudgeNetwork:
    """Train, or go on from the last checkpoint.

    Args:
        free: uint8 (N, 3, H, W), drawings and photographs of others.
        ordinary: the same of the laboratory's ordinary drawings, DRAWING_SHARE of each batch.
        folder: of the checkpoint and the log.
        schedule: how long and how fast.

    Returns:
        The network with averaged weights.
    """
    torch.manual_seed(SEED)
    run = TrainingRun(name="copy-judge", folder=folder, model=JudgeNetwork(), schedule=schedule, seed=SEED)
    pairs = schedule.batch // 2
    drawings = round(DRAWING_SHARE * pairs)
    mixtures = round(MIXED_SHARE * pairs)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        images = torch.cat(
            [
                free[torch.randperm(len(free), generator=generator)[: pairs - drawings]],
                ordinary[torch.randperm(len(ordinary), generator=generator)[:drawings]],
            ]
        )
        images = images[torch.randperm(pairs, generator=generator)].float() / 255
        first, second = altered(images, generator), altered(images, generator)
        # the last of the second views hold their neighbour's picture as well
        second[-mixtures:] = mixed(second[-mixtures:], second.roll(1, 0)[-mixtures:], generator)
        shows = torch.eye(pairs, dtype=torch.bool).repeat(2, 1)
        rows = torch.arange(2 * pairs - mixtures, 2 * pairs)
        shows[rows, (rows - pairs - 1) % pairs] = True
        same = (shows.float() @ shows.float().T) > 0
        views = torch.cat([first, second]).to(device()).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device().type, torch.bfloat16):
            embeddings = run.model(views)
        contrast, entropy = loss_of(embeddings.float(), same)
        similarity = (embeddings @ embeddings.T).detach().fill_diagonal_(-1)
        right = same[torch.arange(len(same)), similarity.argmax(1)].float().mean()
        return contrast + ENTROPY_WEIGHT * entropy, {
            "contrast": contrast,
            "entropy": entropy,
            "right": right,
        }

    trained = run.fit(loss_at)
    assert isinstance(trained, JudgeNetwork)
    return trained
