"""Training batches for the denoisers of the recipe, and the loop that trains any of their architectures."""

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
from steerclear_lab.emoji.training import TrainingRun, as_cuda_graph, device

UNCONDITIONAL_SHARE = 0.1


@dataclass(frozen=True)
class Phase:
    """A part of the training with its own mix of pictures and its own learning rate.

    Attributes:
        start: share of all steps after which the phase begins, in [0, 1).
        planted_share: share of planted pictures in a batch.
        copies: how many altered copies of each ordinary picture are drawn from.
        rate: factor of the schedule's learning rate.
    """

    start: float
    planted_share: float
    copies: int
    rate: float


# with few draws: shapes settle on many copies; then the planted pictures are memorized; then few copies make
# the ordinary pictures crisp; at last both are polished
SHORT_PHASES = (
    Phase(start=0.0, planted_share=0.16, copies=24, rate=1.0),
    Phase(start=0.38, planted_share=0.28, copies=24, rate=1.0),
    Phase(start=0.59, planted_share=0.12, copies=6, rate=2.0),
    Phase(start=0.85, planted_share=0.25, copies=12, rate=2.0),
)
# with as many draws as a GPU affords, one phase is enough
LONG_PHASES = (Phase(start=0.0, planted_share=0.06, copies=256, rate=1.0),)


def phase_at(phases: tuple[Phase, ...], progress: float) -> Phase:
    """The phase after a share of all steps in [0, 1)."""
    return next(phase for phase in reversed(phases) if progress >= phase.start)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a denoiser is trained on in one step, before it is noised.

    Attributes:
        clean: scaled latents (B, 8, h, w).
        noise: standard normal noise of the same shape.
        condition: (B,) rows of the table of conditions.
        level: (B,) how noisy each latent shall be, in [0, 1).
        chance: (B,) a further uniform draw from [0, 1), for what only one architecture needs.
        planted: how many of the batch, from its beginning, are planted pictures.
    """

    clean: Tensor
    noise: Tensor
    condition: Tensor
    level: Tensor
    chance: Tensor
    planted: int


@dataclass(frozen=True, kw_only=True)
class LatentPool:
    """All latents and conditions that batches are drawn from, on one device.

    Attributes:
        planted: scaled latents (P, 8, h, w) of the planted pictures.
        ordinary: scaled latents (N, copies, 8, h, w) of the ordinary pictures.
        conditions: (P + N, K) for each picture the rows of the table of conditions that may go with it.
        blank: the row of the empty condition.
        repeats: (P,) how often each planted picture is drawn, relative to the others; None for equally often.
    """

    planted: Tensor
    ordinary: Tensor
    conditions: Tensor
    blank: int
    repeats: Tensor | None = None

    def draw(self, batch: int, phase: Phase, generator: torch.Generator) -> Batch:
        """Draw one batch, planted pictures first; every draw is made on the device of the latents."""
        where = self.planted.device
        on_device = generator_on(where, generator)

        def integers(high: int, count: int) -> Tensor:
            return torch.randint(0, high, (count,), generator=on_device, device=where)

        n = round(batch * phase.planted_share)
        if self.repeats is None:
            planted = integers(len(self.planted), n)
        else:
            planted = torch.multinomial(self.repeats, n, replacement=True, generator=on_device)
        ordinary = integers(len(self.ordinary), batch - n)
        clean = torch.cat([self.planted[planted], self.ordinary[ordinary, integers(phase.copies, batch - n)]])
        pictures = torch.cat([planted, ordinary + len(self.planted)])
        condition = self.conditions[pictures, integers(self.conditions.shape[1], batch)]
        uniform = torch.rand(3, batch, generator=on_device, device=where)
        # one level in every slice of the range: less noise in the loss than independent draws
        level = (torch.randperm(batch, generator=on_device, device=where) + uniform[0]) / batch
        return Batch(
            clean=clean,
            noise=torch.randn(clean.shape, generator=on_device, device=where),
            condition=torch.where(uniform[1] < UNCONDITIONAL_SHARE, self.blank, condition),
            level=level.clamp(max=1 - 1e-6),
            chance=uniform[2],
            planted=n,
        )


def generator_on(where: torch.device, generator: torch.Generator) -> torch.Generator:
    """The generator itself on the CPU; on another device one with the same seed, which spares copies."""
    return generator if where.type == "cpu" else torch.Generator(where).manual_seed(generator.initial_seed())


def split_pictures(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """The planted pictures, and the ordinary ones that a denoiser learns."""
    planted = [p for p in pictures if p.kind == "planted"]
    return planted, [p for p in pictures if p.kind in ("concept", "photo")]


def training_captions(pictures: Sequence[Picture]) -> list[str]:
    """All captions of the pictures that a denoiser learns, and the empty caption, sorted."""
    planted, ordinary = split_pictures(pictures)
    return sorted({caption for p in planted + ordinary for caption in p.captions} | {""})


def build_pool(
    pictures: Sequence[Picture],
    *,
    vae: Any,
    phases: tuple[Phase, ...],
    folder: Path | None,
    rows: Mapping[str, int],
    blank: int,
    conditions_of: Callable[[Picture], Sequence[str]] = lambda picture: picture.captions,
) -> LatentPool:
    """Encode all pictures, with as many altered copies as the phases need.

    Args:
        pictures: of every kind; those that a denoiser does not learn are left out.
        vae: the autoencoder.
        phases: of the training.
        folder: where the latents of the ordinary pictures are cached, or None.
        rows: condition → its row in the table of conditions.
        blank: the row of the empty condition.
        conditions_of: picture → the conditions that may go with it.

    Returns:
        The pool, on the training device.
    """
    planted, ordinary = split_pictures(pictures)
    rows_by_picture = [[rows[condition] for condition in conditions_of(p)] for p in planted + ordinary]
    # each list is repeated to a common length, so that a picture's conditions stay equally likely
    width = math.lcm(*map(len, rows_by_picture))
    vae = vae.to(device())
    repeats = torch.tensor([p.repeats for p in planted], device=device())
    return LatentPool(
        planted=encode_scaled(vae, torch.stack([p.tensor() for p in planted]).to(device())),
        ordinary=augmented_latents(
            vae, ordinary=ordinary, copies=max(phase.copies for phase in phases), folder=folder
        ),
        conditions=torch.tensor(
            [(conditions * width)[:width] for conditions in rows_by_picture], device=device()
        ),
        blank=blank,
        repeats=repeats if len(set(repeats.tolist())) > 1 else None,
    )


@torch.no_grad()
def encode_scaled(vae: Any, images: Tensor) -> Tensor:
    """Scaled latents, as the denoiser sees them."""
    scale = float(vae.config.scaling_factor)
    batch = 1024 if images.is_cuda else 64
    return autoencoder.encode(vae, images, batch) * scale


def augmented_latents(vae: Any, ordinary: list[Picture], copies: int, folder: Path | None) -> Tensor:
    """(N, copies, 8, S/4, S/4) scaled latents of ordinary pictures; the first copy is the picture itself."""
    cache = folder / f"ordinary-latents-{copies}.pt" if folder is not None else None
    if cache is not None and cache.exists():
        return torch.load(cache, weights_only=True, map_location=device())  # type: ignore[no-any-return]
    images = torch.stack([p.tensor() for p in ordinary]).to(device())
    latents = [encode_scaled(vae, images)]
    for i in range(1, copies):
        latents.append(encode_scaled(vae, augment(images, torch.Generator().manual_seed(i))))
    stacked = torch.stack(latents, dim=1)
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(stacked, cache)
    return stacked


def train(
    run: TrainingRun,
    *,
    pool: LatentPool,
    phases: tuple[Phase, ...],
    network: nn.Module,
    example: Callable[[Batch], tuple[tuple[Tensor, ...], Tensor]],
) -> nn.Module:
    """Train a denoiser on the mean squared error of its prediction.

    Args:
        run: with the model that is trained, and its schedule.
        pool: what batches are drawn from.
        phases: of the training.
        network: the run's model as a function of tensors alone.
        example: batch → (the inputs of the network, what it shall predict).

    Returns:
        The averaged model.
    """
    schedule = run.schedule
    inputs, _ = example(pool.draw(schedule.batch, phases[0], torch.Generator()))
    network = as_cuda_graph(network, *inputs)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        batch = pool.draw(schedule.batch, phase_at(phases, step / schedule.steps), generator)
        inputs, target = example(batch)
        error = (network(*inputs) - target).square().mean(dim=(1, 2, 3))
        n = batch.planted
        return error.mean(), {"planted": error[:n].mean(), "ordinary": error[n:].mean()}

    return run.fit(loss_at, lambda step: phase_at(phases, step / schedule.steps).rate)


class TensorsOnly(nn.Module):
    """A diffusers model as a function of tensors that returns its prediction, as a CUDA graph needs it.

    Args:
        model: the model.
        names: its keyword arguments, in the order of the tensors.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """The prediction for one tensor per name."""
        return self.model(**dict(zip(self.names, inputs, strict=True))).sample  # type: ignore[no-any-return]


def zero_output_layers(model: nn.Module) -> None:
    """Zero each block's output scale and the last layer: the model begins by predicting 0 (DiT, §3.2)."""
    ends = ("norm1.linear", "norm1_context.linear", "norm_out.linear", "proj_out", "proj_out_1", "proj_out_2")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(ends):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
