"""Families that predict a flow velocity, but for FLUX and its kin."""

from __future__ import annotations

from typing import Any

from steerclear.testing.parts import (
    COGVIEW_SHAPE,
    TEXT_WIDTH,
    byte_tokenizer,
    clip_text,
    clip_tokenizer,
    dc_autoencoder,
    flux_vae,
    kl_vae,
    language_model,
    t5_text,
)


def sd3() -> Any:
    """A tiny Stable Diffusion 3, without its T5."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=16,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=kl_vae(
            scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=clip_text(projection=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text(projection=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    )


def qwen() -> Any:
    """A tiny Qwen-Image."""
    from diffusers import AutoencoderKLQwenImage, FlowMatchEulerDiscreteScheduler, QwenImagePipeline
    from diffusers import QwenImageTransformer2DModel as Transformer

    vae = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[-0.7, 0.3, -0.9, 0.1],
        latents_std=[2.8, 1.5, 2.3, 2.7],
    )
    transformer = Transformer(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=language_model("Qwen3"),
        tokenizer=byte_tokenizer(1024),
        transformer=transformer,
    )


def sana() -> Any:
    """A tiny Sana."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel

    transformer = SanaTransformer2DModel(
        sample_size=2,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=TEXT_WIDTH,
    )
    return SanaPipeline(
        tokenizer=byte_tokenizer(300),
        text_encoder=language_model("Gemma2"),
        vae=dc_autoencoder(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def zimage() -> Any:
    """A tiny Z-Image."""
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel

    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=TEXT_WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 64, 64],
    )
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=flux_vae(),
        text_encoder=language_model("Qwen3"),
        tokenizer=byte_tokenizer(512),
        transformer=transformer,
    )


def lumina2() -> Any:
    """A tiny Lumina 2."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Lumina2Pipeline, Lumina2Transformer2DModel

    transformer = Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=2,
        axes_dim_rope=(4, 4, 4),
        axes_lens=(512, 64, 64),
        cap_feat_dim=TEXT_WIDTH,
    )
    pipe = Lumina2Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=flux_vae(),
        text_encoder=language_model("Gemma2"),
        tokenizer=byte_tokenizer(256),
    )
    pipe.default_sample_size = 8
    return pipe


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
        rope_axes_dim=(8, 8),
        **COGVIEW_SHAPE,
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
