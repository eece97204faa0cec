"""Families of two stages: a prior turns the text into an image embedding, a decoder that into a picture."""

from __future__ import annotations

from typing import Any

from steerclear.testing.parts import (
    TEXT_WIDTH,
    awake,
    byte_tokenizer,
    clip_text,
    clip_tokenizer,
    clip_vision,
    movq,
    paella,
    soften,
    t5_text,
)


def kandinsky22() -> Any:
    """A tiny Kandinsky 2.2, prior and decoder."""
    import torch
    from diffusers import (
        DDPMScheduler,
        KandinskyV22CombinedPipeline,
        PriorTransformer,
        UnCLIPScheduler,
        UNet2DConditionModel,
    )

    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        addition_embed_type="image",
        encoder_hid_dim_type="image_proj",
        encoder_hid_dim=TEXT_WIDTH,
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
    )
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=TEXT_WIDTH
    )
    torch.nn.init.ones_(prior.clip_std)  # the standard deviation of the embeddings; 0 before training
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
    return KandinskyV22CombinedPipeline(
        unet=unet,
        scheduler=DDPMScheduler(**schedule, clip_sample=False, variance_type="learned_range"),
        movq=movq(),
        prior_prior=prior,
        prior_image_encoder=clip_vision(),
        prior_text_encoder=clip_text(projection=True),
        prior_tokenizer=clip_tokenizer(),
        prior_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        prior_image_processor=None,  # used only to begin from a picture
    )


def kandinsky3() -> Any:
    """A tiny Kandinsky 3, which has no prior: its denoiser reads the text embeddings themselves."""
    from diffusers import DDPMScheduler, Kandinsky3Pipeline, Kandinsky3UNet

    unet = Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=8,
        groups=2,
        attention_head_dim=4,
        layers_per_block=2,
        block_out_channels=(16, 32),
        cross_attention_dim=8,
        encoder_hid_dim=TEXT_WIDTH,
    )
    return Kandinsky3Pipeline(
        tokenizer=byte_tokenizer(128),
        text_encoder=t5_text(),
        unet=unet,
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False),
        movq=movq(),
    )


def wuerstchen() -> Any:
    """A tiny Würstchen, prior and decoder."""
    from diffusers import DDPMWuerstchenScheduler, WuerstchenCombinedPipeline
    from diffusers.pipelines.deprecated.wuerstchen import WuerstchenDiffNeXt, WuerstchenPrior

    decoder = WuerstchenDiffNeXt(
        c_cond=16,
        c_hidden=[16, 16],
        nhead=[-1, 2],
        blocks=[1, 1],
        level_config=["CT", "CTA"],
        inject_effnet=[False, True],
        effnet_embd=4,
        clip_embd=TEXT_WIDTH,
    )
    awake(decoder)
    soften(decoder.clf[1], 0.1)  # the model divides by half of this output
    return WuerstchenCombinedPipeline(
        tokenizer=clip_tokenizer(),
        text_encoder=clip_text(),
        decoder=decoder,
        scheduler=DDPMWuerstchenScheduler(),
        vqgan=paella(),
        prior_tokenizer=clip_tokenizer(),
        prior_text_encoder=clip_text(),
        prior_prior=awake(WuerstchenPrior(c_in=4, c=16, c_cond=TEXT_WIDTH, c_r=16, depth=1, nhead=2)),
        prior_scheduler=DDPMWuerstchenScheduler(),
    )


def cascade() -> Any:
    """A tiny Stable Cascade, prior and decoder."""
    from diffusers import DDPMWuerstchenScheduler, StableCascadeCombinedPipeline
    from diffusers.models import StableCascadeUNet

    shape = {
        "block_out_channels": (16, 16),
        "num_attention_heads": (2, 2),
        "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1),
        "down_blocks_repeat_mappers": (1, 1),
        "up_blocks_repeat_mappers": (1, 1),
        "conditioning_dim": 16,
        "timestep_ratio_embedding_dim": 16,
        "clip_text_pooled_in_channels": TEXT_WIDTH,
        "clip_seq": 1,
    }
    block = ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock")
    decoder = StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        patch_size=2,
        effnet_in_channels=4,
        pixel_mapper_in_channels=3,
        block_types_per_layer=(block[:2], block),
        timestep_conditioning_type=("sca",),
        **shape,
    )
    prior = StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        clip_text_in_channels=TEXT_WIDTH,
        clip_image_in_channels=TEXT_WIDTH,
        block_types_per_layer=(block, block),
        switch_level=(False,),
        **shape,
    )
    return StableCascadeCombinedPipeline(
        tokenizer=clip_tokenizer(),
        text_encoder=clip_text(projection=True),
        decoder=awake(decoder),
        scheduler=DDPMWuerstchenScheduler(),
        vqgan=paella(),
        prior_prior=awake(prior),
        prior_text_encoder=clip_text(projection=True),
        prior_tokenizer=clip_tokenizer(),
        prior_scheduler=DDPMWuerstchenScheduler(),
    )
