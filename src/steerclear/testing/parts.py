"""What tiny pipelines are made of: tokenizers with a byte alphabet, text encoders and autoencoders."""

from __future__ import annotations

from typing import Any

TEXT_WIDTH = 16


def clip_tokenizer(length: int = 77) -> Any:
    """A CLIP tokenizer that spells every word in bytes; 514 tokens, end of text the highest as CLIP needs."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=length)


def clip_text(width: int = TEXT_WIDTH, projection: bool = False, **config: Any) -> Any:
    """A two-layer CLIP text encoder for `clip_tokenizer`."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    text_config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=77,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        **config,
    )
    return CLIPTextModelWithProjection(text_config) if projection else CLIPTextModel(text_config)


def kl_vae(channels: int = 4, **config: Any) -> Any:
    """An AutoencoderKL that shrinks by 8, as Stable Diffusion's does."""
    from diffusers import AutoencoderKL

    blocks = 4
    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=channels,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=64,
        **config,
    )


def sd1_scheduler_config() -> dict[str, Any]:
    """The noise schedule of Stable Diffusion 1.x, with DDIM's and PNDM's additions."""
    return {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "skip_prk_steps": True,
    }
