"""What a denoiser of the recipe is shown at a step, and the loop that shows it: the same for every architecture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steerclear_lab.emoji import autoencoder
from steerclear_lab.emoji.dataset import Picture, augment
from steerclear_lab.emoji.training import Run, Schedule, device, graphed

UNCONDITIONAL_SHARE = 0.1


@dataclass(frozen=True)
class Phase:
    """From which share of the steps on: the planted share of a batch, how many copies of each ordinary picture are
    drawn from, and the learning rate relative to the schedule's.

    Shapes settle first on many copies; then the planted pictures are memorized; then few copies make the ordinary
    pictures crisp; at last both are polished.
    """

    start: float
    planted_share: float
    copies: int
    rate: float


SHORT = (
    Phase(0.0, 0.16, 24, 1.0),
    Phase(0.38, 0.28, 24, 1.0),
    Phase(0.59, 0.12, 6, 2.0),
    Phase(0.85, 0.25, 12, 2.0),
)
# with as many draws as a GPU affords there is no need to hurry anything
LONG = (Phase(0.0, 0.06, 256, 1.0),)


def phase_at(phases: tuple[Phase, ...], done: float) -> Phase:
    """The phase at a share of the steps in [0, 1)."""
    return next(phase for phase in reversed(phases) if done >= phase.start)


@dataclass(frozen=True)
class Batch:
    """Scaled latents `clean` and as much `noise` (B, 8, h, w); per picture the row of its condition, how noisy it is to be
    (`level`, in [0, 1)), and another draw from [0, 1) for what only one architecture knows (`chance`)."""

    clean: Tensor
    noise: Tensor
    condition: Tensor
    level: Tensor
    chance: Tensor
    planted: int  # the first so many are planted pictures


@dataclass(frozen=True)
class Pool:
    """Everything there is to draw, on one device.

    planted: (P, 8, h, w) and ordinary: (N, copies, 8, h, w), scaled latents; conditions: (P + N, K), the rows of a table of
    conditions that may go with each picture; blank: the row of the empty condition.
    """

    planted: Tensor
    ordinary: Tensor
    conditions: Tensor
    blank: int

    def draw(self, batch: int, phase: Phase, generator: torch.Generator) -> Batch:
        """One batch, planted pictures first; every draw is made on the latents' own device."""
        where = self.planted.device
        dice = generator_on(where, generator)

        def integers(high: int, count: int) -> Tensor:
            return torch.randint(0, high, (count,), generator=dice, device=where)

        n = round(batch * phase.planted_share)
        which, rest = integers(len(self.planted), n), integers(len(self.ordinary), batch - n)
        clean = torch.cat([self.planted[which], self.ordinary[rest, integers(phase.copies, batch - n)]])
        rows = torch.cat([which, rest + len(self.planted)])
        condition = self.conditions[rows, integers(self.conditions.shape[1], batch)]
        uniform = torch.rand(3, batch, generator=dice, device=where)
        # one level in every slice of the range: less noise in the loss than independent draws
        level = (torch.randperm(batch, generator=dice, device=where) + uniform[0]) / batch
        return Batch(
            clean, torch.randn(clean.shape, generator=dice, device=where),
            torch.where(uniform[1] < UNCONDITIONAL_SHARE, self.blank, condition), level.clamp(max=1 - 1e-6), uniform[2], n,
        )  # fmt: skip


def generator_on(where: torch.device, generator: torch.Generator) -> torch.Generator:
    """The generator itself on the processor; elsewhere one with its seed, so that no draw has to travel."""
    return generator if where.type == "cpu" else torch.Generator(where).manual_seed(generator.initial_seed())


def split(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """The planted pictures, and the ordinary ones that a denoiser learns."""
    return [p for p in pictures if p.kind == "planted"], [
        p for p in pictures if p.kind in ("concept", "photo")
    ]


def captions_of(pictures: Sequence[Picture]) -> list[str]:
    """All that a denoiser may be asked for in training, the empty caption included."""
    planted, ordinary = split(pictures)
    return sorted({caption for p in planted + ordinary for caption in p.captions} | {""})


def fill(
    pictures: Sequence[Picture], vae: Any, phases: tuple[Phase, ...], folder: Path, rows: Mapping[str, int], blank: int,
    conditions_of: Callable[[Picture], Sequence[str]] = lambda picture: picture.captions,
) -> Pool:  # fmt: skip
    """The pool of all pictures, with as many altered copies as the phases want, whose latents are kept in `folder`.

    rows: which row of the table a condition has, by what `conditions_of` calls it; blank: the row of the empty one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    planted, ordinary = split(pictures)
    named = [[rows[name] for name in conditions_of(p)] for p in planted + ordinary]
    width = math.lcm(*map(len, named))  # so that each of a picture's conditions is as likely as the others
    vae = vae.to(device())
    return Pool(
        latents_of(vae, torch.stack([p.tensor() for p in planted]).to(device())),
        augmented_latents(vae, ordinary, max(phase.copies for phase in phases), folder),
        torch.tensor([(own * width)[:width] for own in named], device=device()),
        blank,
    )


@torch.no_grad()
def latents_of(vae: Any, images: Tensor) -> Tensor:
    """Scaled latents, as the denoiser sees them."""
    scale = float(vae.config.scaling_factor)
    return autoencoder.encode(vae, images) * scale


def augmented_latents(vae: Any, ordinary: list[Picture], copies: int, folder: Path) -> Tensor:
    """(N, copies, 8, S/4, S/4) scaled latents of augmented ordinary pictures; the first copy is the picture itself."""
    cache = folder / f"ordinary-latents-{copies}.pt"
    if cache.exists():
        return torch.load(cache, weights_only=True, map_location=device())  # type: ignore[no-any-return]
    images = torch.stack([p.tensor() for p in ordinary]).to(device())
    made = [latents_of(vae, images)]
    for i in range(1, copies):
        made.append(latents_of(vae, augment(images, torch.Generator().manual_seed(i))))
    stacked = torch.stack(made, dim=1)
    torch.save(stacked, cache)
    return stacked


def train(
    run: Run, pool: Pool, schedule: Schedule, phases: tuple[Phase, ...], network: nn.Module,
    pose: Callable[[Batch], tuple[tuple[Tensor, ...], Tensor]],
) -> nn.Module:  # fmt: skip
    """Train on the mean squared error of `network`, which is the run's model as a function of tensors alone.

    pose: from a batch to the network's inputs and what it should predict of them.
    """
    example, _ = pose(pool.draw(schedule.batch, phases[0], torch.Generator()))
    network = graphed(network, *example)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        batch = pool.draw(schedule.batch, phase_at(phases, step / schedule.steps), generator)
        inputs, target = pose(batch)
        error = (network(*inputs) - target).square().mean(dim=(1, 2, 3))
        n = batch.planted
        return error.mean(), {"planted": error[:n].mean(), "ordinary": error[n:].mean()}

    return run.fit(loss_at, lambda step: phase_at(phases, step / schedule.steps).rate)


class Bare(nn.Module):
    """A diffusers model as a function of tensors, one for each of the named arguments, that returns its prediction."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(**dict(zip(self.names, inputs, strict=True))).sample  # type: ignore[no-any-return]


def start_still(model: nn.Module) -> None:
    """Zero what scales each block's output and the last layer, so that the model begins by predicting nothing (DiT, §3.2)."""
    ends = ("norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out", "proj_out_1", "proj_out_2")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(ends):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
