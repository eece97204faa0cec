"""FLUX and the families that are built as it is."""

from __future__ import annotations

import warnings
from typing import Any

from steerclear.testing.parts import (
    FLUX_SHAPE,
    TEXT_WIDTH,
    byte_tokenizer,
    clip_text,
    clip_tokenizer,
    flux_vae,
    language_model,
    t5_text,
)


def flux() -> Any:
    """A tiny FLUX.1."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    transformer = FluxTransformer2DModel(
        pooled_projection_dim=TEXT_WIDTH,
        **FLUX_SHAPE,
    )
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux_vae(),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_text(),
        tokenizer_2=byte_tokenizer(512),
        transformer=transformer,
    )
    pipe.default_sample_size = 8
    return pipe


def flux2() -> Any:
    """A tiny FLUX.2 Klein."""
    from diffusers import Flux2KleinPipeline

    return Flux2KleinPipeline(**_flux2_parts("Qwen3", guidance_embeds=False))


def flux2_dev() -> Any:
    """FLUX.2 as first published: guidance is an embedding, and a system message precedes every prompt."""
    from diffusers import Flux2Pipeline

    pipe = Flux2Pipeline(**_flux2_parts("Mistral", guidance_embeds=True))
    pipe.system_message = "-"
    return pipe


def _flux2_parts(text_encoder: str, guidance_embeds: bool) -> dict[str, Any]:
    """The components of a FLUX.2, with a language model of this kind as its text encoder."""
    from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler
    from diffusers import Flux2Transformer2DModel as Transformer

    vae = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=64,
    )
    # statistics like a trained model's: a fresh batch norm would normalise nothing
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2.0)
    transformer = Transformer(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=2 * TEXT_WIDTH,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "vae": vae,
        "text_encoder": language_model(text_encoder),
        "tokenizer": byte_tokenizer(512),
        "transformer": transformer,
    }


def chroma() -> Any:
    """A tiny Chroma."""
    from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the diffusers class imports a deprecated name
        transformer = ChromaTransformer2DModel(
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
            **FLUX_SHAPE,
        )
    pipe = ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=flux_vae(),
        text_encoder=t5_text(),
        tokenizer=byte_tokenizer(512),
        transformer=transformer,
    )
    pipe.default_sample_size = 8
    return pipe


def ovis() -> Any:
    """A tiny Ovis-Image."""
    from diffusers import FlowMatchEulerDiscreteScheduler, OvisImagePipeline, OvisImageTransformer2DModel

    transformer = OvisImageTransformer2DModel(
        out_channels=16,
        **FLUX_SHAPE,
    )
    return OvisImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=flux_vae(),
        text_encoder=language_model("Qwen3"),
        tokenizer=byte_tokenizer(1024),
        transformer=transformer,
    )
