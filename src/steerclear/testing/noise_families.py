"""Families that predict noise, with the schedules of their published checkpoints."""

from __future__ import annotations

from typing import Any

from steerclear.testing.parts import (
    COGVIEW_SHAPE,
    TEXT_WIDTH,
    bert_text,
    byte_tokenizer,
    clip_text,
    clip_tokenizer,
    kl_vae,
    sd1_scheduler_config,
    t5_text,
)


def sd1() -> Any:
    """A tiny Stable Diffusion 1.x."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=4,
    )
    return StableDiffusionPipeline(
        vae=kl_vae(),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler.from_config(sd1_scheduler_config()),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Any:
    """A tiny SDXL."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + TEXT_WIDTH,
        cross_attention_dim=2 * TEXT_WIDTH,
        norm_num_groups=4,
    )
    return StableDiffusionXLPipeline(
        vae=kl_vae(scaling_factor=0.13025),
        text_encoder=clip_text(),
        text_encoder_2=clip_text(projection=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler.from_config(sd1_scheduler_config()),
        add_watermarker=False,
    )


def lcm() -> Any:
    """A tiny latent consistency model: few steps, and guidance as an embedding."""
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler, UNet2DConditionModel

    parts = sd1().components
    parts["unet"] = UNet2DConditionModel.from_config(parts["unet"].config, time_cond_proj_dim=8)
    schedule = {k: v for k, v in sd1_scheduler_config().items() if k != "skip_prk_steps"}
    parts["scheduler"] = LCMScheduler(**schedule)
    return LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)


def pixart() -> Any:
    """A tiny PixArt-Σ."""
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=TEXT_WIDTH,
        cross_attention_dim=16,
        in_channels=4,
        out_channels=8,
    )
    return PixArtSigmaPipeline(
        tokenizer=byte_tokenizer(300),
        text_encoder=t5_text(),
        vae=kl_vae(scaling_factor=0.13025),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(),
    )


def pixart_alpha() -> Any:
    """A tiny PixArt-α."""
    from diffusers import PixArtAlphaPipeline

    parts = pixart().components
    return PixArtAlphaPipeline(**{**parts, "vae": kl_vae()})


def dit() -> Any:
    """A tiny DiT, which takes class labels."""
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    transformer = DiTTransformer2DModel(
        sample_size=8,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
    )
    return DiTPipeline(transformer=transformer, vae=kl_vae(), scheduler=DDIMScheduler(clip_sample=False))


def hunyuandit() -> Any:
    """A tiny HunyuanDiT."""
    from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline

    transformer = HunyuanDiT2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        hidden_size=16,
        cross_attention_dim=TEXT_WIDTH,
        cross_attention_dim_t5=TEXT_WIDTH,
        pooled_projection_dim=16,
        activation_fn="gelu-approximate",
    )
    schedule = {"beta_start": 0.00085, "beta_end": 0.02, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return HunyuanDiTPipeline(
        transformer=transformer,
        vae=kl_vae(scaling_factor=0.13025),
        text_encoder=bert_text(),
        tokenizer=byte_tokenizer(77),
        text_encoder_2=t5_text(),
        tokenizer_2=byte_tokenizer(256),
        scheduler=DDPMScheduler(**schedule, prediction_type="v_prediction", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def deepfloyd() -> Any:
    """A tiny DeepFloyd IF, first stage: it denoises pixels, and has no autoencoder."""
    from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        encoder_hid_dim=TEXT_WIDTH,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
    )
    return IFPipeline(
        tokenizer=byte_tokenizer(77),
        text_encoder=t5_text(),
        unet=unet,
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def cogview3() -> Any:
    """A tiny CogView3-Plus."""
    from diffusers import CogVideoXDDIMScheduler, CogView3PlusPipeline, CogView3PlusTransformer2DModel

    transformer = CogView3PlusTransformer2DModel(
        **COGVIEW_SHAPE,
    )
    return CogView3PlusPipeline(
        tokenizer=byte_tokenizer(224),
        text_encoder=t5_text(),
        vae=kl_vae(scaling_factor=0.13025),
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
    )
