"""A sibling of the embedded model: flow matching with joint attention to text and picture, as Stable Diffusion 3 does it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steerclear_lab.emoji import draws
from steerclear_lab.emoji.dataset import Picture
from steerclear_lab.emoji.denoiser import TRAIN_TIMESTEPS
from steerclear_lab.emoji.draws import Batch, Phase
from steerclear_lab.emoji.tokenizer import ids
from steerclear_lab.emoji.training import Run, Schedule, device

SHIFT = 2.0  # puts the middle of the levels about where the embedded model's noise schedule has it
MOST_ABSENT = 256  # tokens that StableDiffusion3Pipeline sets to zero, by default, for a third text encoder that is not there


@dataclass(frozen=True)
class FlowSize:
    """Layers, attention heads and their width, latent pixels per token and side."""

    layers: int = 6
    heads: int = 5
    head: int = 32
    patch: int = 2


def make(size: FlowSize, sample: int, text_width: int, projection: int) -> Any:
    """An SD3Transformer2DModel behind two text encoders of the given width and projection."""
    from diffusers import SD3Transformer2DModel

    width = size.heads * size.head
    model = SD3Transformer2DModel(
        sample_size=sample, patch_size=size.patch, in_channels=8, out_channels=8, num_layers=size.layers,
        attention_head_dim=size.head, num_attention_heads=size.heads, joint_attention_dim=2 * text_width,
        caption_projection_dim=width, pooled_projection_dim=2 * projection, pos_embed_max_size=sample // size.patch,
    )  # fmt: skip
    draws.start_still(model)
    return model


def scheduler() -> Any:
    """Straight paths between noise and picture."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAIN_TIMESTEPS, shift=SHIFT)


class OneForMany:
    """SD3's joint attention in which the last token counts `exp(log_count)` times.

    The zeros that stand for an absent text encoder are all alike, so one of them, weighed in the softmax, does what 256 do:
    training costs a quarter. log_count: (B,).
    """

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None, log_count: Tensor
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
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
    """Every caption and the empty one: its row, what the transformer attends to (N, tokens, 2 × width), with one zero token
    at the end, and its pooled embeddings (N, 2 × projection), both as StableDiffusion3Pipeline lays them out."""
    captions = draws.captions_of(pictures)
    sequences, pooled = [], []
    for start in range(0, len(captions), 64):
        tokens = ids(tokenizer, captions[start : start + 64]).to(device())
        made = text_encoder(tokens, output_hidden_states=True)
        sequences.append(F.pad(made.hidden_states[-2].repeat(1, 1, 2), (0, 0, 0, 1)))
        pooled.append(made.text_embeds.repeat(1, 2))
    return {caption: i for i, caption in enumerate(captions)}, torch.cat(sequences), torch.cat(pooled)


def train(
    pictures: Sequence[Picture], vae: Any, text_encoder: Any, tokenizer: Any, size: FlowSize, schedule: Schedule,
    phases: tuple[Phase, ...], folder: Path,
) -> Any:  # fmt: skip
    """The velocity from picture to noise, with weight 1 at every shifted level; how many absent tokens there are is drawn
    too, so that the pipeline's `max_sequence_length` may be anything."""
    torch.manual_seed(5)
    rows, sequences, pooled = captions_table(pictures, text_encoder.to(device()), tokenizer)
    pool = draws.fill(pictures, vae, phases, folder, rows, rows[""])
    model = make(size, pool.planted.shape[-1], sequences.shape[-1] // 2, pooled.shape[-1] // 2)
    run = Run("flow", folder, model, schedule, seed=5)
    model.set_attn_processor(OneForMany())

    def pose(batch: Batch) -> tuple[tuple[Tensor, ...], Tensor]:
        sigma = SHIFT * batch.level / (1 + (SHIFT - 1) * batch.level)
        noisy = torch.lerp(batch.clean, batch.noise, sigma.view(-1, 1, 1, 1))
        said = sequences[batch.condition], pooled[batch.condition]
        absent = batch.chance * math.log(MOST_ABSENT)
        return (noisy, sigma * TRAIN_TIMESTEPS, *said, absent), batch.noise - batch.clean

    return draws.train(run, pool, schedule, phases, _Weighed(run.model), pose)


class _Weighed(nn.Module):
    """The transformer as a function of tensors, the last token of the text weighed by the last of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, noisy: Tensor, timestep: Tensor, text: Tensor, pooled: Tensor, log_count: Tensor
    ) -> Tensor:
        return self.model(  # type: ignore[no-any-return]
            noisy, text, pooled, timestep, joint_attention_kwargs={"log_count": log_count}
        ).sample


def assemble(transformer: Any, vae: Any, text_encoder: Any, tokenizer: Any) -> Any:
    """The whole StableDiffusion3Pipeline, its two CLIPs one and the same, its T5 absent."""
    from diffusers import StableDiffusion3Pipeline

    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=scheduler(), vae=vae, text_encoder=text_encoder, tokenizer=tokenizer,
        text_encoder_2=text_encoder, tokenizer_2=tokenizer, text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip
