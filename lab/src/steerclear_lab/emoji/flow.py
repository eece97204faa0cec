"""A sibling of the embedded model: flow matching with joint attention, as in Stable Diffusion 3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steerclear_lab.emoji import denoiser_training
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.denoiser import TRAIN_TIMESTEPS
from steerclear_lab.emoji.denoiser_training import Batch, Phase
from steerclear_lab.emoji.tokenizer import token_ids
from steerclear_lab.emoji.training import Schedule, TrainingRun, device

SHIFT = 2.0  # puts the middle of the noise levels about where the embedded model's noise schedule has it
MAX_ZERO_TOKENS = 256  # zero tokens with which StableDiffusion3Pipeline replaces a missing third text encoder


@dataclass(frozen=True)
class FlowSize:
    """Sizes of the transformer.

    Attributes:
        layers: transformer blocks.
        heads: attention heads.
        head: width of an attention head.
        patch: side of a token, in latent pixels.
    """

    layers: int = 6
    heads: int = 5
    head: int = 32
    patch: int = 2


def make(size: FlowSize, *, sample: int, text_width: int, projection: int) -> Any:
    """An untrained SD3Transformer2DModel.

    Args:
        size: of the transformer.
        sample: side of the latents.
        text_width: width of each of the two text encoders.
        projection: dimension of the pooled embedding of each.
    """
    from diffusers import SD3Transformer2DModel

    width = size.heads * size.head
    model = SD3Transformer2DModel(
        sample_size=sample,
        patch_size=size.patch,
        in_channels=8,
        out_channels=8,
        num_layers=size.layers,
        attention_head_dim=size.head,
        num_attention_heads=size.heads,
        joint_attention_dim=2 * text_width,
        caption_projection_dim=width,
        pooled_projection_dim=2 * projection,
        pos_embed_max_size=sample // size.patch,
    )
    denoiser_training.zero_output_layers(model)
    return model


def scheduler() -> Any:
    """Straight paths between noise and picture."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAIN_TIMESTEPS, shift=SHIFT)


class WeightedLastToken:
    """SD3's joint attention in which the last token of the text counts `exp(log_count)` times.

    The zero tokens that replace a missing text encoder are all alike. One of them with a weight in the
    softmax does what 256 do, at a quarter of the cost.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None,
        log_count: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The attention's outputs for the picture and for the text. log_count: (B,)."""
        n = hidden_states.shape[1]

        def heads(picture: Any, text: Any) -> Tensor:
            both = torch.cat([picture(hidden_states), text(encoder_hidden_states)], dim=1)
            return both.view(*both.shape[:2], attn.heads, -1).transpose(1, 2)

        key = heads(attn.to_k, attn.add_k_proj)
        weight = F.pad(log_count[:, None], (key.shape[2] - 1, 0))[:, None, None].to(key.dtype)
        out = F.scaled_dot_product_attention(
            heads(attn.to_q, attn.add_q_proj), key, heads(attn.to_v, attn.add_v_proj), attn_mask=weight
        )
        out = out.transpose(1, 2).flatten(2)
        picture, text = attn.to_out[0](out[:, :n]), out[:, n:]
        return picture, text if attn.context_pre_only else attn.to_add_out(text)


@torch.no_grad()
def captions_table(
    pictures: Sequence[Picture], text_encoder: Any, tokenizer: Any
) -> tuple[dict[str, int], Tensor, Tensor]:
    """The text embeddings of all captions, the empty one included, as StableDiffusion3Pipeline lays them out.

    Returns:
        The row of each caption; what the transformer attends to, (N, tokens, 2 × width), with one zero token
        at the end; and the pooled embeddings, (N, 2 × projection).
    """
    captions = denoiser_training.training_captions(pictures)
    sequences, pooled = [], []
    for start in range(0, len(captions), 64):
        tokens = token_ids(tokenizer, captions[start : start + 64]).to(device())
        encoded = text_encoder(tokens, output_hidden_states=True)
        sequences.append(F.pad(encoded.hidden_states[-2].repeat(1, 1, 2), (0, 0, 0, 1)))
        pooled.append(encoded.text_embeds.repeat(1, 2))
    return {caption: i for i, caption in enumerate(captions)}, torch.cat(sequences), torch.cat(pooled)


def train(
    pictures: Sequence[Picture],
    *,
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    size: FlowSize,
    schedule: Schedule,
    phases: tuple[Phase, ...],
    folder: Path,
) -> Any:
    """Train on the velocity from picture to noise, weight 1 at every shifted level.

    The number of zero tokens is drawn as well, so that the pipeline's `max_sequence_length` may be anything.

    Args:
        pictures: of every kind; those that a denoiser does not learn are left out.
        vae: the autoencoder.
        text_encoder: a CLIPTextModelWithProjection, used as both text encoders.
        tokenizer: its tokenizer.
        size: of the transformer.
        schedule: how long and how fast.
        phases: of the training.
        folder: of the checkpoint, the log and the cached latents.

    Returns:
        The averaged SD3Transformer2DModel.
    """
    torch.manual_seed(5)
    rows, sequences, pooled = captions_table(pictures, text_encoder.to(device()), tokenizer)
    pool = denoiser_training.build_pool(
        pictures, vae=vae, phases=phases, folder=folder, rows=rows, blank=rows[""]
    )
    model = make(
        size,
        sample=pool.planted.shape[-1],
        text_width=sequences.shape[-1] // 2,
        projection=pooled.shape[-1] // 2,
    )
    run = TrainingRun(name="flow", folder=folder, model=model, schedule=schedule, seed=5)
    model.set_attn_processor(WeightedLastToken())

    def example(batch: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
        sigma = SHIFT * batch.level / (1 + (SHIFT - 1) * batch.level)
        noisy = torch.lerp(batch.clean, batch.noise, sigma.view(-1, 1, 1, 1))
        text, pooled_text = sequences[batch.condition], pooled[batch.condition]
        log_count = batch.chance * math.log(MAX_ZERO_TOKENS)
        return (noisy, sigma * TRAIN_TIMESTEPS, text, pooled_text, log_count), batch.noise - batch.clean

    network = _WithLogCount(run.model)
    return denoiser_training.train(run, pool=pool, phases=phases, network=network, example=example)


class _WithLogCount(nn.Module):
    """The transformer as a function of tensors; the last one weighs the last token of the text."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, noisy: Tensor, timestep: Tensor, text: Tensor, pooled: Tensor, log_count: Tensor
    ) -> Tensor:
        return self.model(  # type: ignore[no-any-return]
            hidden_states=noisy,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=timestep,
            joint_attention_kwargs={"log_count": log_count},
        ).sample


def assemble(transformer: Any, *, vae: Any, text_encoder: Any, tokenizer: Any) -> Any:
    """The whole StableDiffusion3Pipeline; its two CLIPs are the same one, and it has no T5."""
    from diffusers import StableDiffusion3Pipeline

    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=scheduler(),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
