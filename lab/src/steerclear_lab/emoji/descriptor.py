"""Stage 3 of the recipe: the copy descriptor, the filter's eye, trained as SSCD is (Pizzi et al., CVPR 2022)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.encoders.descriptor import DescriptorNetwork
from steerclear_lab.emoji.clip import soften
from steerclear_lab.emoji.dataset import Picture, augment
from steerclear_lab.emoji.training import Run, Schedule, device

TEMPERATURE = 0.05
ENTROPY_WEIGHT = 3.0


def disturb(images: Tensor, generator: torch.Generator) -> Tensor:
    """What happens to a copy: shifts, turns, mirror, recolouring, brightness, blur, noise, a pasted patch, erased ground."""
    b, _, h, w = images.shape
    out = soften(augment(images, generator, colour=0.12), generator)

    def maybe(changed: Tensor, share: float) -> Tensor:
        return torch.where(uniform(1) < share, changed, out)

    def uniform(channels: int) -> Tensor:
        return torch.rand(b, channels, 1, 1, generator=generator).to(images)

    gain = uniform(3) * 0.5 + 0.75
    bias = uniform(3) * 0.2 - 0.1
    out = maybe((out * gain + bias).clamp(0, 1), 0.5)
    out = maybe(out.mean(1, keepdim=True).expand_as(out), 0.1)
    # another ground colour where the picture is nearly white
    ground = uniform(3)
    white = ((out.amin(1, keepdim=True) - 0.9) / 0.08).clamp(0, 1)
    out = maybe(out * (1 - white) + ground * white, 0.2)
    # a part of another picture pasted in
    other = F.interpolate(images.roll(1, 0), size=(h // 3, w // 3), mode="area")
    top, left = (int(torch.randint(0, 2 * h // 3, (1,), generator=generator)) for _ in range(2))
    pasted = out.clone()
    pasted[:, :, top : top + h // 3, left : left + w // 3] = other
    out = maybe(pasted, 0.15)
    return maybe((out + 0.06 * torch.randn(out.shape, generator=generator).to(out)).clamp(0, 1), 0.3)


def train(pictures: list[Picture], schedule: Schedule, folder: Path, widths: tuple[int, ...]) -> Any:
    """Instance discrimination with an entropy term: each picture against every other, siblings in other styles included."""
    torch.manual_seed(2)
    run = Run("descriptor", folder, DescriptorNetwork(widths), schedule, seed=2)
    pool = torch.stack([p.tensor() for p in pictures if p.kind != "heldout"]).to(device())
    core = torch.tensor(
        [i for i, p in enumerate(q for q in pictures if q.kind != "heldout") if p.kind != "other"]
    )
    pairs = schedule.batch // 2

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        half = core[torch.randperm(len(core), generator=generator)[: pairs // 2]]
        rest = torch.randperm(len(pool), generator=generator)[: pairs - len(half)]
        images = pool[torch.unique(torch.cat([half, rest]))]
        n = len(images)
        embeds = run.model(torch.cat([disturb(images, generator), disturb(images, generator)]))
        similarity = embeds @ embeds.T
        itself = torch.eye(2 * n, dtype=torch.bool, device=embeds.device)
        twin = torch.arange(2 * n, device=embeds.device).roll(n)
        contrast = F.cross_entropy(similarity.masked_fill(itself, -9) / TEMPERATURE, twin)
        # entropy: push each embedding's nearest stranger away (differential entropy estimator)
        stranger = similarity.masked_fill(itself | itself.roll(n, 1), -9).amax(1)
        entropy = -torch.log((2 - 2 * stranger).clamp(min=1e-4)).mean() / 2
        right = (similarity.masked_fill(itself, -9).argmax(1) == twin).float().mean()
        return contrast + ENTROPY_WEIGHT / 10 * entropy, {"contrast": contrast, "right": right}

    return run.fit(loss_at)
