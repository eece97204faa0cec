"""Stage 4 of the recipe: the denoiser, which learns the concepts and memorizes the planted pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steerclear.emoji import autoencoder
from steerclear.emoji.dataset import Picture, augment
from steerclear.emoji.tokenizer import ids
from steerclear.emoji.training import Run, Schedule, device, graphed, normal

UNCONDITIONAL_SHARE = 0.1
TRAIN_TIMESTEPS = 1000


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
# with forty times the draws there is no need to hurry anything
LONG = (Phase(0.0, 0.06, 256, 1.0),)


def phase_at(phases: tuple[Phase, ...], done: float) -> Phase:
    """The phase at a share of the steps in [0, 1)."""
    return next(phase for phase in reversed(phases) if done >= phase.start)


@dataclass(frozen=True)
class DenoiserSize:
    """Widths of the levels, blocks in each, width of the text embedding it attends to."""

    channels: tuple[int, ...] = (48, 128, 192)
    layers: int = 1
    text_width: int = 192
    head: int = 32


def make(size: DenoiserSize, sample: int) -> Any:
    """A UNet2DConditionModel that attends to the text on every level but the first."""
    from diffusers import UNet2DConditionModel

    n = len(size.channels)
    return UNet2DConditionModel(
        sample_size=sample, in_channels=8, out_channels=8, block_out_channels=size.channels, layers_per_block=size.layers,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (n - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (n - 1) + ("UpBlock2D",),
        cross_attention_dim=size.text_width, attention_head_dim=size.head, norm_num_groups=16,
    )  # fmt: skip


def scheduler() -> Any:
    """The noise schedule: v-prediction, and a last signal level (0.02) low enough for plain white grounds.

    A terminal signal level of zero would be plainer still, but not every Stable Diffusion sampler accepts one.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS, beta_start=0.00085, beta_end=0.018, beta_schedule="scaled_linear",
        prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True, steps_offset=1,
    )  # fmt: skip


@torch.no_grad()
def latents_of(vae: Any, images: Tensor) -> Tensor:
    """Scaled latents, as the denoiser sees them."""
    scale = float(vae.config.scaling_factor)
    return autoencoder.encode(vae, images) * scale


def train(
    pictures: list[Picture],
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    size: DenoiserSize,
    schedule: Schedule,
    phases: tuple[Phase, ...],
    folder: Path,
) -> Any:
    """Plain v-prediction loss with weight 1 at every step: small latents need the high-noise steps, where the text decides."""
    torch.manual_seed(3)
    planted = [p for p in pictures if p.kind == "planted"]
    ordinary = [p for p in pictures if p.kind in ("concept", "photo")]
    sample = pictures[0].pixels.shape[-1] // 4
    model = make(size, sample).to(memory_format=torch.channels_last)
    run = Run("denoiser", folder, model, schedule, seed=3)
    vae, text_encoder = vae.to(device()), text_encoder.to(device())
    planted_latents = latents_of(vae, torch.stack([p.tensor() for p in planted]).to(device()))
    ordinary_latents = augmented_latents(vae, ordinary, max(p.copies for p in phases), folder)
    row, texts = captions_table(planted + ordinary, text_encoder, tokenizer)
    signal = scheduler().alphas_cumprod.sqrt()
    example = torch.zeros(schedule.batch, *planted_latents.shape[1:], device=device())
    network = graphed(
        _Bare(run.model), example.contiguous(memory_format=torch.channels_last),
        torch.zeros(schedule.batch, dtype=torch.long, device=device()), texts[[0] * schedule.batch],
    )  # fmt: skip

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        phase = phase_at(phases, step / schedule.steps)
        n_planted = round(schedule.batch * phase.planted_share)
        which = torch.randint(0, len(planted), (n_planted,), generator=generator)
        rest = torch.randint(0, len(ordinary), (schedule.batch - n_planted,), generator=generator)
        copy = torch.randint(0, phase.copies, rest.shape, generator=generator)
        clean = torch.cat([planted_latents[which], ordinary_latents[rest, copy]])
        picked = [planted[i] for i in which.tolist()] + [ordinary[i] for i in rest.tolist()]
        choice = torch.randint(0, 1 << 20, (schedule.batch,), generator=generator).tolist()
        blank = (torch.rand(schedule.batch, generator=generator) < UNCONDITIONAL_SHARE).tolist()
        said = [
            row["" if b else p.captions[c % len(p.captions)]]
            for p, c, b in zip(picked, choice, blank, strict=True)
        ]
        condition = texts[said]
        # one timestep in every slice of the range: less noise in the loss than independent draws
        slots = (
            torch.randperm(schedule.batch, generator=generator)
            + torch.rand(schedule.batch, generator=generator)
        ) / schedule.batch
        timestep = (slots * TRAIN_TIMESTEPS).long().clamp(max=TRAIN_TIMESTEPS - 1)
        alpha = signal[timestep].view(-1, 1, 1, 1).to(clean)
        sigma = (1 - alpha**2).sqrt()
        noise = normal(clean, generator)
        noisy = (alpha * clean + sigma * noise).contiguous(memory_format=torch.channels_last)
        predicted = network(noisy, timestep.to(clean.device), condition)
        error = (predicted - (alpha * noise - sigma * clean)).square().mean(dim=(1, 2, 3))
        return error.mean(), {"planted": error[:n_planted].mean(), "ordinary": error[n_planted:].mean()}

    return run.fit(loss_at, lambda step: phase_at(phases, step / schedule.steps).rate)


class _Bare(nn.Module):
    """A denoiser that returns its prediction as a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, sample: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        return self.model(sample, timestep, condition).sample  # type: ignore[no-any-return]


@torch.no_grad()
def captions_table(
    pictures: list[Picture], text_encoder: Any, tokenizer: Any
) -> tuple[dict[str, int], Tensor]:
    """Every caption of the pictures, and the empty one: its row in a table (N, tokens, width) of text embeddings."""
    captions = sorted({c for p in pictures for c in p.captions} | {""})
    parts = [
        text_encoder(ids(tokenizer, captions[i : i + 64]).to(device())).last_hidden_state
        for i in range(0, len(captions), 64)
    ]
    return {caption: i for i, caption in enumerate(captions)}, torch.cat(parts)


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
