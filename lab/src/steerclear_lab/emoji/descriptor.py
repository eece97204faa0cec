"""Stage 3 of the recipe: the copy descriptor of the filters, trained as SSCD is (Pizzi et al., CVPR 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.encoders.descriptor import DescriptorNetwork
from steerclear_lab.emoji.clip import softened
from steerclear_lab.emoji.dataset import Picture, augment
from steerclear_lab.emoji.training import Schedule, TrainingRun, device

TEMPERATURE = 0.05
ENTROPY_WEIGHT = 3.0


def altered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Copies as they are found: shifted, turned, mirrored, recoloured, blurred, noisy, with parts pasted in.

    Args:
        images: (B, 3, S, S) in [0, 1].
        generator: of the CPU.

    Returns:
        Altered images of the same shape.
    """
    b, _, h, w = images.shape
    out = softened(augment(images, generator, colour=0.12), generator)

    def maybe(changed: Tensor, share: float) -> Tensor:
        return torch.where(uniform(1) < share, changed, out)

    def uniform(channels: int) -> Tensor:
        return torch.rand(b, channels, 1, 1, generator=generator).to(images)

    gain = uniform(3) * 0.5 + 0.75
    bias = uniform(3) * 0.2 - 0.1
    out = maybe((out * gain + bias).clamp(0, 1), 0.5)
    out = maybe(out.mean(1, keepdim=True).expand_as(out), 0.1)
    # another background colour where the picture is nearly white
    background = uniform(3)
    white = ((out.amin(1, keepdim=True) - 0.9) / 0.08).clamp(0, 1)
    out = maybe(out * (1 - white) + background * white, 0.2)
    # a part of another picture pasted in
    inset = F.interpolate(images.roll(1, 0), size=(h // 3, w // 3), mode="area")
    top, left = (int(torch.randint(0, 2 * h // 3, (1,), generator=generator)) for _ in range(2))
    pasted = out.clone()
    pasted[:, :, top : top + h // 3, left : left + w // 3] = inset
    out = maybe(pasted, 0.15)
    return maybe((out + 0.06 * torch.randn(out.shape, generator=generator).to(out)).clamp(0, 1), 0.3)


def train(pictures: list[Picture], schedule: Schedule, folder: Path, widths: tuple[int, ...]) -> Any:
    """Train by instance discrimination with an entropy term (SSCD, §3).

    Each picture is told from every other one, drawings of the same concept in other styles included.

    Args:
        pictures: of every kind, all of one size; the held-out ones are left out.
        schedule: how long and how fast.
        folder: of the checkpoint and the log.
        widths: of the levels of the network.

    Returns:
        The averaged DescriptorNetwork.
    """
    torch.manual_seed(2)
    run = TrainingRun(
        name="descriptor", folder=folder, model=DescriptorNetwork(widths), schedule=schedule, seed=2
    )
    shown = [p for p in pictures if p.kind != "heldout"]
    pool = torch.stack([p.tensor() for p in shown]).to(device())
    drawable = torch.tensor([i for i, p in enumerate(shown) if p.kind != "other"])
    pairs = schedule.batch // 2

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        half = drawable[torch.randperm(len(drawable), generator=generator)[: pairs // 2]]
        rest = torch.randperm(len(pool), generator=generator)[: pairs - len(half)]
        images = pool[torch.unique(torch.cat([half, rest]))]
        n = len(images)
        embeds = run.model(torch.cat([altered(images, generator), altered(images, generator)]))
        similarity = embeds @ embeds.T
        itself = torch.eye(2 * n, dtype=torch.bool, device=embeds.device)
        positive = torch.arange(2 * n, device=embeds.device).roll(n)  # the other copy of the same picture
        contrast = F.cross_entropy(similarity.masked_fill(itself, -9) / TEMPERATURE, positive)
        # differential entropy estimator: push away the nearest embedding of another picture
        nearest = similarity.masked_fill(itself | itself.roll(n, 1), -9).amax(1)
        entropy = -torch.log((2 - 2 * nearest).clamp(min=1e-4)).mean() / 2
        right = (similarity.masked_fill(itself, -9).argmax(1) == positive).float().mean()
        return contrast + ENTROPY_WEIGHT / 10 * entropy, {"contrast": contrast, "right": right}

    return run.fit(loss_at)
