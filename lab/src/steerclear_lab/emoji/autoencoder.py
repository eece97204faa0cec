"""Stage 1 of the recipe: the autoencoder, whose error is the floor of every distance measured later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear_lab.emoji.dataset import Picture, augment
from steerclear_lab.emoji.training import Schedule, TrainingRun, device

PLANTED_SHARE = 0.15
KL_WEIGHT = 3e-7


def make(channels: tuple[int, ...], size: int) -> Any:
    """An untrained AutoencoderKL with 8 latent channels at a quarter of the side.

    Args:
        channels: of each level; each further level halves the side.
        size: side of the images, in pixels.
    """
    from diffusers import AutoencoderKL

    n = len(channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=size,
        mid_block_add_attention=False,
    )


def train(pictures: list[Picture], channels: tuple[int, ...], schedule: Schedule, folder: Path) -> Any:
    """Train on every picture but the held-out ones; planted ones are drawn more often and never augmented.

    Args:
        pictures: of every kind, all of one size.
        channels: as `make` takes them.
        schedule: how long and how fast.
        folder: of the checkpoint and the log.

    Returns:
        The averaged AutoencoderKL, with its scaling factor set.
    """
    size = pictures[0].pixels.shape[-1]
    torch.manual_seed(0)
    model = make(channels, size).to(memory_format=torch.channels_last)
    run = TrainingRun(name="autoencoder", folder=folder, model=model, schedule=schedule)

    def stacked(*kinds: str) -> Tensor:
        return torch.stack([p.tensor() for p in pictures if p.kind in kinds]).to(device())

    planted, concept = stacked("planted"), stacked("concept", "twin", "photo")
    other = stacked("other") if any(p.kind == "other" for p in pictures) else concept

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        n_planted = max(1, round(schedule.batch * PLANTED_SHARE))
        n_concept = (schedule.batch - n_planted) // 2
        n_other = schedule.batch - n_planted - n_concept

        def draw(pool: Tensor, n: int) -> Tensor:
            return pool[torch.randint(len(pool), (n,), generator=generator)]

        moved = augment(torch.cat([draw(concept, n_concept), draw(other, n_other)]), generator)
        target = torch.cat([draw(planted, n_planted), moved]) * 2 - 1
        target = target.contiguous(memory_format=torch.channels_last)
        posterior = run.model.encode(target).latent_dist  # type: ignore[operator]
        noise = torch.randn(posterior.mean.shape, generator=generator).to(target)
        # without the bound, a few posteriors grow so wide early on that no picture is left
        output = run.model.decode(posterior.mean + posterior.std.clamp(max=0.3) * noise).sample  # type: ignore[operator]
        error = output - target
        logvar = posterior.logvar.clamp(max=2)
        kl = 0.5 * (posterior.mean**2 + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
        loss = error.abs().mean() + 2 * error.square().mean() + 0.5 * edges(error) + KL_WEIGHT * kl
        rmse = error.detach().square().mean(dim=(1, 2, 3)).sqrt() / 2
        means = {"rmse": rmse[n_planted:].mean(), "planted": rmse[:n_planted].mean(), "kl": kl / 1000}
        return loss, means

    trained: Any = run.fit(loss_at)
    trained.register_to_config(scaling_factor=scaling_factor(trained, torch.cat([concept, planted])))
    return trained


def edges(error: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring errors: penalises blur and ringing at outlines."""
    return F.l1_loss(error[..., 1:], error[..., :-1]) + F.l1_loss(error[..., 1:, :], error[..., :-1, :])


@torch.no_grad()
def scaling_factor(model: Any, images: Tensor) -> float:
    """1 / standard deviation of the latents, as Stable Diffusion defines it."""
    return float(1 / encode(model, images).std())


@torch.no_grad()
def encode(model: Any, images: Tensor, batch: int = 64) -> Tensor:
    """Unscaled mean latents (B, 8, S/4, S/4) of images (B, 3, S, S) in [0, 1]."""
    return torch.cat([model.encode(part * 2 - 1).latent_dist.mean for part in torch.split(images, batch)])


@torch.no_grad()
def decode(model: Any, latents: Tensor, batch: int = 64) -> Tensor:
    """Images in [0, 1] of unscaled latents."""
    return torch.cat(
        [(model.decode(part).sample / 2 + 0.5).clamp(0, 1) for part in torch.split(latents, batch)]
    )
