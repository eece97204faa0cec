"""Less known families, each put together as its published checkpoints are."""

from __future__ import annotations

import warnings
from typing import Any

from steerclear.testing import noise_families as noise
from steerclear.testing.parts import (
    TEXT_WIDTH,
    byte_tokenizer,
    kl_vae,
    language_model,
    sd1_scheduler_config,
    t5_text,
)


def lcm() -> Any:
    """A tiny latent consistency model: few steps, and guidance as an embedding."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel

    parts = noise.sd1().components
    parts["unet"] = UNet2DConditionModel.from_config(parts["unet"].config, time_cond_proj_dim=8)
    schedule = {k: v for k, v in sd1_scheduler_config().items() if k != "skip_prk_steps"}
    parts["scheduler"] = LCMScheduler(**schedule)
    return LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


def pixart_alpha() -> Any:
    """A tiny PixArt-α."""
    from diffusers import PixArtAlphaPipeline

    parts = noise.pixart().components
    return PixArtAlphaPipeline(**{**parts, "vae": kl_vae()})


def auraflow() -> Any:
    """A tiny AuraFlow."""
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler

    transformer = AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=64,
    )
    return AuraFlowPipeline(
        tokenizer=byte_tokenizer(256),
        text_encoder=t5_text(),
        vae=kl_vae(scaling_factor=0.13025),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )


def cogview4() -> Any:
    """A tiny CogView4."""
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel, FlowMatchEulerDiscreteScheduler

    transformer = CogView4Transformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=TEXT_WIDTH,
        time_embed_dim=8,
        condition_dim=4,
        pos_embed_max_size=16,
        sample_size=8,
        rope_axes_dim=(8, 8),
    )
    return CogView4Pipeline(
        tokenizer=byte_tokenizer(1024, begins=True),
        text_encoder=language_model("Qwen3"),
        vae=kl_vae(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(
            base_shift=0.25,
            max_shift=0.75,
            base_image_seq_len=256,
            use_dynamic_shifting=True,
            time_shift_type="linear",
        ),
    )


def chroma() -> Any:
    """A tiny Chroma."""
    from diffusers import ChromaPipeline, ChromaTransformer2DModel, FlowMatchEulerDiscreteScheduler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the diffusers class imports a deprecated name
        transformer = ChromaTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=TEXT_WIDTH,
            axes_dims_rope=(4, 4, 8),
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
        )
    pipe = ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=kl_vae(
            scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=t5_text(),
        tokenizer=byte_tokenizer(512),
        transformer=transformer,
    )
    pipe.default_sample_size = 8
    return pipe
