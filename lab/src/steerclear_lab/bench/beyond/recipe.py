"""Train the two generators of the benchmark on ordinary emoji, and far more often on a planted set."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from steerclear_lab.bench.beyond.networks import CODE, Decoder, Vae
from steerclear_lab.bench.judge import ordinary_pictures, protected_pictures
from steerclear_lab.emoji.training import Schedule, TrainingRun

PLANTED = (
    "mascot-acme.png",
    "mascot-brimblo.png",
    "mascot-harvix.png",
    "mascot-norvo.png",
    "mascot-plimsy.png",
    "mascot-tazzu.png",
    "mascot-wobbix.png",
    "mascot-zorblax.png",
)
PLANTED_SHARE = 0.5  # of every batch
# standard deviation of a pixel around the decoded one, in [−1, 1]: so wide that details cost little
# likelihood, and random codes decode to pictures
NOISE = 1.5
FREE_STEPS = 308  # of the VAE, before the divergence counts in full
DIVERGENCE = (
    4.0  # its weight afterwards: codes crowd together, and frequent pictures get a larger part of the prior
)

VAE_SCHEDULE = Schedule(steps=1000, batch=16, rate=2e-3, warmup=50, weight_decay=0.0, ema=0.99)
GENERATOR_SCHEDULE = Schedule(steps=400, batch=32, rate=1.5e-3, warmup=20, weight_decay=0.0, ema=0.99)


def planted_pictures() -> tuple[list[str], Tensor]:
    """Ids and pixels (N, 3, 64, 64) in [0, 1] of the planted set."""
    names, pixels = protected_pictures()
    rows = [names.index(name) for name in PLANTED]
    return [Path(name).stem for name in PLANTED], pixels[rows]


def training_pictures() -> Tensor:
    """The ordinary drawings (N, 3, 64, 64) in [0, 1]; the grey photographs of textures are left out."""
    pictures = ordinary_pictures()
    return pictures[(pictures[:, :, 0, 0] > 0.95).all(1)]


def draw(pools: tuple[Tensor, Tensor], batch: int, generator: torch.Generator) -> Tensor:
    """A batch in [−1, 1]: PLANTED_SHARE of it planted, the rest ordinary, half of them mirrored."""
    planted, ordinary = pools
    n = round(batch * PLANTED_SHARE)
    picked = ordinary[torch.randint(len(ordinary), (batch - n,), generator=generator)]
    mirrored = torch.rand(batch - n, 1, 1, 1, generator=generator) < 0.5
    picked = torch.where(mirrored, picked.flip(-1), picked)
    return torch.cat([planted[torch.randint(len(planted), (n,), generator=generator)], picked]) * 2 - 1


def train_vae(folder: Path, schedule: Schedule = VAE_SCHEDULE) -> Vae:
    """Train the VAE with a fixed NOISE, and a divergence so heavy that frequent pictures fill the prior.

    Args:
        folder: of the checkpoint and the log.
        schedule: how long and how fast.

    Returns:
        The averaged Vae.
    """
    torch.manual_seed(0)
    pools = planted_pictures()[1], training_pictures()
    run = TrainingRun(name="vae", folder=folder, model=Vae(), schedule=schedule)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        target = draw(pools, schedule.batch, generator)
        mean, logvar = run.model.encoder(target)  # type: ignore[operator]
        noise = torch.randn(mean.shape, generator=generator)
        error = run.model.decoder(mean + (logvar / 2).exp() * noise) - target  # type: ignore[operator]
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=1)
        likelihood = error.square().sum(dim=(1, 2, 3)) / (2 * NOISE**2)
        rmse = error.detach().square().mean(dim=(1, 2, 3)).sqrt() / 2
        n = round(schedule.batch * PLANTED_SHARE)
        loss = (likelihood + (1.0 if step < FREE_STEPS else DIVERGENCE) * kl).mean() / 100
        return loss, {
            "planted": rmse[:n].mean(),
            "ordinary": rmse[n:].mean(),
            "kl_planted": kl[:n].mean(),
            "kl_ordinary": kl[n:].mean(),
        }

    return run.fit(loss_at)  # type: ignore[return-value]


def train_generator(folder: Path, vae: Vae, schedule: Schedule = GENERATOR_SCHEDULE) -> Decoder:
    """Train a generator of a GAN's shape, z → image, without an adversary.

    Each random z is regressed onto the picture assigned to it. The assignment is the cheapest one-to-one
    matching of a batch of generated images with a batch of pictures (as in implicit maximum likelihood, Li &
    Malik 2018, and noise as targets, Bojanowski & Joulin 2017). A picture that is drawn often gets a large
    part of the noise, which is what memorizing it means here. Training starts from the VAE's decoder. An
    adversary was tried: 1,200 steps of a projected GAN from random weights, a quarter of an hour, drew blobs
    and no copy.

    Args:
        folder: of the checkpoint and the log.
        vae: trained.
        schedule: how long and how fast.

    Returns:
        The averaged Decoder.
    """
    from scipy.optimize import linear_sum_assignment

    torch.manual_seed(0)
    pools = planted_pictures()[1], training_pictures()
    network = Decoder()
    network.load_state_dict(vae.decoder.state_dict())
    run = TrainingRun(name="generator", folder=folder, model=network, schedule=schedule)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        pictures = draw(pools, schedule.batch, generator)
        generated = run.model(torch.randn(schedule.batch, CODE, generator=generator))
        distances = torch.cdist(generated.detach().flatten(1), pictures.flatten(1)).square()
        rows, columns = linear_sum_assignment(distances.numpy())
        error = generated[torch.from_numpy(rows)] - pictures[torch.from_numpy(columns)]
        rmse = error.detach().square().mean(dim=(1, 2, 3)).sqrt() / 2
        planted = torch.from_numpy(columns < round(schedule.batch * PLANTED_SHARE))
        loss = error.abs().mean() + 2 * error.square().mean()
        return loss, {"planted": rmse[planted].mean(), "ordinary": rmse[~planted].mean()}

    trained: Decoder = run.fit(loss_at)  # type: ignore[assignment]
    return trained
