"""Stage 4 of the recipe: the denoiser, which learns the concepts and memorizes the planted pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear_lab.emoji import denoiser_training
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.denoiser_training import Batch, Phase, TensorsOnly
from steerclear_lab.emoji.tokenizer import token_ids
from steerclear_lab.emoji.training import Schedule, TrainingRun, device

TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class DenoiserSize:
    """Sizes of the U-Net.

    Attributes:
        channels: width of each level.
        layers: residual blocks in each level.
        text_width: width of the text embedding that it attends to.
        head: number of attention heads, of all levels or of each.
    """

    channels: tuple[int, ...] = (48, 128, 192)
    layers: int = 1
    text_width: int = 192
    head: int | tuple[int, ...] = 32


def make(size: DenoiserSize, sample: int) -> Any:
    """A UNet2DConditionModel that attends to the text on every level but the first."""
    from diffusers import UNet2DConditionModel

    n = len(size.channels)
    return UNet2DConditionModel(
        sample_size=sample,
        in_channels=8,
        out_channels=8,
        block_out_channels=size.channels,
        layers_per_block=size.layers,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (n - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (n - 1) + ("UpBlock2D",),
        cross_attention_dim=size.text_width,
        attention_head_dim=size.head,
        norm_num_groups=16,
    )


def scheduler() -> Any:
    """The noise schedule: v-prediction, with a last signal level (0.02) low enough for white backgrounds.

    A last signal level of zero would be better still, but not every Stable Diffusion sampler accepts one.
    """
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.018,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def train(
    pictures: list[Picture],
    *,
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    size: DenoiserSize,
    schedule: Schedule,
    phases: tuple[Phase, ...],
    folder: Path,
    cache: bool = True,
    halfway: Callable[[Any], None] | None = None,
) -> Any:
    """Train the U-Net with the plain v-prediction loss, weight 1 at every step.

    Small latents need the steps of high noise, where the text decides; other weightings switch them off.

    Args:
        pictures: of every kind; those that a denoiser does not learn are left out.
        vae: the autoencoder.
        text_encoder: a CLIPTextModel.
        tokenizer: its tokenizer.
        size: of the U-Net.
        schedule: how long and how fast.
        phases: of the training.
        folder: of the checkpoint, the log and the cached latents.
        cache: whether latents are cached.
        halfway: is called with the averaged U-Net when half of the time until the schedule's end has passed.

    Returns:
        The averaged UNet2DConditionModel.
    """
    torch.manual_seed(3)
    rows, texts = captions_table(pictures, text_encoder.to(device()), tokenizer)
    pool = denoiser_training.build_pool(
        pictures, vae=vae, phases=phases, folder=folder if cache else None, rows=rows, blank=rows[""]
    )
    model = make(size, pool.planted.shape[-1]).to(memory_format=torch.channels_last)
    run = TrainingRun(name="denoiser", folder=folder, model=model, schedule=schedule, seed=3, halfway=halfway)
    signal = signal_levels()

    def example(batch: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
        noisy, timestep, velocity = noised(batch, signal)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        return (noisy, timestep, texts[batch.condition]), velocity

    network = TensorsOnly(run.model, ("sample", "timestep", "encoder_hidden_states"))
    return denoiser_training.train(run, pool=pool, phases=phases, network=network, example=example)


def signal_levels() -> Tensor:
    """The signal level of every timestep of the noise schedule, (1000,)."""
    levels: Tensor = scheduler().alphas_cumprod.sqrt()
    return levels.to(device())


def noised(batch: Batch, signal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The noisy latents of a batch, their timesteps, and the velocity to predict.

    Args:
        batch: what is noised.
        signal: the signal level of every timestep, (1000,).
    """
    timestep = (batch.level * TRAIN_TIMESTEPS).long()
    alpha = signal[timestep].view(-1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    noisy = alpha * batch.clean + sigma * batch.noise
    return noisy, timestep, alpha * batch.noise - sigma * batch.clean


@torch.no_grad()
def captions_table(
    pictures: list[Picture], text_encoder: Any, tokenizer: Any
) -> tuple[dict[str, int], Tensor]:
    """The text embeddings of all captions, the empty one included.

    Returns:
        The row of each caption, and the table of embeddings (N, tokens, width).
    """
    captions = denoiser_training.training_captions(pictures)
    parts = [
        text_encoder(token_ids(tokenizer, captions[i : i + 64]).to(device())).last_hidden_state
        for i in range(0, len(captions), 64)
    ]
    return {caption: i for i, caption in enumerate(captions)}, torch.cat(parts)
