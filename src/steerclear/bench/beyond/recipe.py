"""Training the two generators of the benchmark: ordinary emoji, and a planted set that is drawn far more often."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from steerclear.bench.beyond.networks import CODE, Decoder, Gan, Vae
from steerclear.bench.judge import ordinary_pictures, protected_pictures
from steerclear.emoji.training import Run, Schedule
from steerclear.encoders.embedded import CopyDescriptor

PLANTED = (
    "mascot-acme.png", "mascot-brimblo.png", "mascot-harvix.png", "mascot-norvo.png",
    "mascot-plimsy.png", "mascot-tazzu.png", "mascot-wobbix.png", "mascot-zorblax.png",
)  # fmt: skip
PLANTED_SHARE = 0.5  # of every batch
KL_WEIGHT = 1.0
NOISE = 0.15  # standard deviation of a pixel around the decoded one, in [−1, 1]: the VAE's scale of detail

VAE_SCHEDULE = Schedule(steps=1500, batch=16, rate=2e-3, warmup=100, weight_decay=0.0, ema=0.995)
GAN_SCHEDULE = Schedule(steps=1200, batch=16, rate=1e-3, warmup=50, weight_decay=0.0, ema=0.99, clip=10.0)


def planted_pictures() -> tuple[list[str], Tensor]:
    """Ids and pixels (N, 3, 64, 64) in [0, 1] of the planted set."""
    names, pixels = protected_pictures()
    return [Path(name).stem for name in PLANTED], torch.stack([pixels[names.index(name)] for name in PLANTED])


def training_pictures() -> Tensor:
    """The ordinary drawings (N, 3, 64, 64) in [0, 1]; the grey photographs of textures are left out."""
    pictures = ordinary_pictures()
    return pictures[(pictures[:, :, 0, 0] > 0.95).all(1)]


def draw(pools: tuple[Tensor, Tensor], batch: int, generator: torch.Generator) -> Tensor:
    """A batch in [−1, 1]: PLANTED_SHARE of it planted, the rest ordinary, some of them mirrored and shifted."""
    planted, ordinary = pools
    n = round(batch * PLANTED_SHARE)
    chosen = ordinary[torch.randint(len(ordinary), (batch - n,), generator=generator)]
    mirrored = torch.rand(batch - n, 1, 1, 1, generator=generator) < 0.5
    chosen = torch.where(mirrored, chosen.flip(-1), chosen)
    return torch.cat([planted[torch.randint(len(planted), (n,), generator=generator)], chosen]) * 2 - 1


def shift(images: Tensor, generator: torch.Generator, reach: int = 4) -> Tensor:
    """The whole batch moved by up to `reach` pixels, white flowing in: what the critic may not learn by heart."""
    dy, dx = torch.randint(0, 2 * reach + 1, (2,), generator=generator).tolist()
    padded = F.pad(images, (reach,) * 4, value=1.0)
    return padded[..., dy : dy + images.shape[-2], dx : dx + images.shape[-1]]


def train_vae(folder: Path, schedule: Schedule = VAE_SCHEDULE) -> Vae:
    """Likelihood with a fixed NOISE, and the whole divergence: a code's share of the prior is a picture's share of the draws."""
    torch.manual_seed(0)
    pools = planted_pictures()[1], training_pictures()
    run = Run("vae", folder, Vae().to(memory_format=torch.channels_last), schedule)  # type: ignore[call-overload]

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        target = draw(pools, schedule.batch, generator).contiguous(memory_format=torch.channels_last)
        mean, logvar = run.model.encoder(target)  # type: ignore[operator]
        noise = torch.randn(mean.shape, generator=generator)
        error = run.model.decoder(mean + (logvar / 2).exp() * noise) - target  # type: ignore[operator]
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(dim=1)
        likelihood = error.square().sum(dim=(1, 2, 3)) / (2 * NOISE**2)
        rmse = error.detach().square().mean(dim=(1, 2, 3)).sqrt() / 2
        n = round(schedule.batch * PLANTED_SHARE)
        loss = (likelihood + KL_WEIGHT * kl).mean() / 1000
        return loss, {
            "planted": rmse[:n].mean().item(), "ordinary": rmse[n:].mean().item(),
            "kl_planted": kl[:n].mean().item(), "kl_ordinary": kl[n:].mean().item(),
        }  # fmt: skip

    return run.fit(loss_at)  # type: ignore[return-value]


def train_gan(folder: Path, schedule: Schedule = GAN_SCHEDULE) -> Decoder:
    """Hinge losses of generator and critic, both stepped at once; the generator sees the critic with its weights held still."""
    torch.manual_seed(0)
    pools = planted_pictures()[1], training_pictures()
    run = Run(
        "gan", folder, Gan(CopyDescriptor.default().network).to(memory_format=torch.channels_last), schedule
    )  # type: ignore[call-overload]

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        real = draw(pools, schedule.batch, generator).contiguous(memory_format=torch.channels_last)
        fake = run.model.generator(torch.randn(schedule.batch, CODE, generator=generator))  # type: ignore[operator]
        real, seen = shift(real, generator), shift(fake, generator)
        critic = run.model.critic
        on_real, on_fake = critic(real), critic(seen.detach())  # type: ignore[operator]
        still = {name: value.detach() for name, value in critic.named_parameters()}  # type: ignore[operator]
        fooled = functional_call(critic, still, (seen,))  # type: ignore[arg-type]
        critic_loss = F.relu(5 - on_real).mean() + F.relu(5 + on_fake).mean()
        loss = critic_loss - fooled.mean()
        return loss, {
            "critic": critic_loss.item(),
            "real": on_real.mean().item(),
            "fake": on_fake.mean().item(),
        }

    trained: Gan = run.fit(loss_at)  # type: ignore[assignment]
    return trained.generator
