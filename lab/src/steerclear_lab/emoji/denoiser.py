"""Stage 4 of the recipe: the denoiser, which learns the concepts and memorizes the planted pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear_lab.emoji import draws
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.draws import Bare, Batch, Phase
from steerclear_lab.emoji.tokenizer import ids
from steerclear_lab.emoji.training import Run, Schedule, device

TRAIN_TIMESTEPS = 1000


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
    rows, texts = captions_table(pictures, text_encoder.to(device()), tokenizer)
    pool = draws.fill(pictures, vae, phases, folder, rows, rows[""])
    model = make(size, pool.planted.shape[-1]).to(memory_format=torch.channels_last)
    run = Run("denoiser", folder, model, schedule, seed=3)
    signal = signal_levels()

    def pose(batch: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
        noisy, timestep, velocity = diffused(batch, signal)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        return (noisy, timestep, texts[batch.condition]), velocity

    network = Bare(run.model, ("sample", "timestep", "encoder_hidden_states"))
    return draws.train(run, pool, schedule, phases, network, pose)


def signal_levels() -> Tensor:
    """The signal level of every timestep of the noise schedule, (1000,)."""
    levels: Tensor = scheduler().alphas_cumprod.sqrt()
    return levels.to(device())


def diffused(batch: Batch, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The noisy latents of a batch, their timesteps, and the velocity that is to be predicted of them."""
    timestep = (batch.level * TRAIN_TIMESTEPS).long()
    alpha = signal[timestep].view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    noisy = alpha * batch.clean + sigma * batch.noise
    return noisy, timestep, alpha * batch.noise - sigma * batch.clean


@torch.no_grad()
def captions_table(
    pictures: list[Picture], text_encoder: Any, tokenizer: Any
) -> tuple[dict[str, int], Tensor]:
    """Every caption of the pictures, and the empty one: its row in a table (N, tokens, width) of text embeddings."""
    captions = draws.captions_of(pictures)
    parts = [
        text_encoder(ids(tokenizer, captions[i : i + 64]).to(device())).last_hidden_state
        for i in range(0, len(captions), 64)
    ]
    return {caption: i for i, caption in enumerate(captions)}, torch.cat(parts)
