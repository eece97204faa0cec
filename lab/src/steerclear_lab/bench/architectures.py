"""Published architectures at real size with random weights: time and memory do not depend on training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steerclear.testing import parts

STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A published architecture.

    Attributes:
        name: what it is called on the command line.
        published: the repository whose configuration it has.
        pipe: makes the pipeline, its weights on the meta device.
        embeddings: shapes of the random embeddings that a call takes, by argument.
        text: makes the text encoders and tokenizers, by component.
    """

    name: str
    published: str
    pipe: Callable[[], Any]
    embeddings: dict[str, tuple[int, ...]]
    text: Callable[[], dict[str, Any]]


def build(architecture: Architecture, device: str, stored: str) -> Any:
    """The pipeline on a device, without text encoders.

    On a CPU, weights in half precision are brought to float32 layer by layer while a layer runs, since few
    CPUs multiply in half precision; so a model larger than memory in float32 fits.

    Args:
        architecture: what to build.
        device: "cpu" or "cuda".
        stored: dtype of the denoiser's weights, a key of STORED.
    """
    pipe = architecture.pipe()
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    for module in (denoiser, pipe.vae):
        module.to(STORED[stored] if module is denoiser else torch.float32).to_empty(device=device)
        _fill(module)
        module.eval().requires_grad_(False)
    if device == "cpu" and stored != "float32":
        _compute_in_float32(denoiser)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def prompted(architecture: Architecture, device: str, stored: str) -> Any:
    """The pipeline on a device, with text encoders, so that it can be guarded.

    The text encoders have the published widths and two layers: they run once a request. The autoencoder has
    the denoiser's precision, as `pipe.to(dtype)` leaves it.

    Args:
        architecture: what to build.
        device: "cpu" or "cuda".
        stored: dtype of all weights, a key of STORED.
    """
    pipe = build(architecture, device, stored)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        components = architecture.text()
    for name, part in components.items():
        if isinstance(part, nn.Module):
            part.to(device, STORED[stored]).eval().requires_grad_(False)
        setattr(pipe, name, part)
    if device != "cpu":
        pipe.vae.to(STORED[stored])
    return pipe


def call_arguments(
    architecture: Architecture, *, device: str, stored: str, steps: int, side: int
) -> dict[str, Any]:
    """Keyword arguments of one unguided call: half of the work of a guided one, so that overheads weigh
    twice.

    Args:
        architecture: what is called.
        device: "cpu" or "cuda".
        stored: dtype of the denoiser's weights, a key of STORED.
        steps: denoising steps.
        side: of the picture, in pixels.
    """
    dtype = torch.float32 if device == "cpu" else STORED[stored]
    generator = torch.Generator().manual_seed(0)
    embeddings = {
        name: torch.randn(shape, generator=generator).to(device, dtype)
        for name, shape in architecture.embeddings.items()
    }
    return {
        **embeddings,
        "num_inference_steps": steps,
        "guidance_scale": 1.0,
        "height": side,
        "width": side,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(1),
    }


def _fill(module: nn.Module) -> None:
    """Fill with numbers of a trained size: not denormal, which is slow on a CPU, nor growing by layer."""
    noise = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)).to(
        next(module.parameters()).device
    )
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        with torch.no_grad():
            if value.ndim < 2:
                value.fill_(1.0 if name.endswith("weight") else 0.0)
                continue
            scale = value[0].numel() ** -0.5
            flat = value.view(-1)
            for i in range(0, flat.numel(), len(noise)):
                part = flat[i : i + len(noise)]
                part.copy_(noise[: len(part)] * scale)


def _compute_in_float32(module: nn.Module) -> None:
    """Let a module with weights in half precision compute in float32."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.forward = _widened(layer)  # type: ignore[method-assign, assignment]
        else:
            for _, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
                value.data = value.data.float()  # norms and position tables: small
    # pipelines ask the module for its dtype, to bring their inputs to it
    members = {"dtype": property(lambda self: torch.float32)}
    module.__class__ = type(type(module).__name__, (type(module),), members)


def _widened(layer: nn.Linear | nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """A layer's forward in float32."""

    def forward(x: Tensor) -> Tensor:
        weight = layer.weight.float()
        bias = None if layer.bias is None else layer.bias.float()
        if isinstance(layer, nn.Conv2d):
            convolved: Tensor = layer._conv_forward(x.float(), weight, bias)
            return convolved
        return F.linear(x.float(), weight, bias)

    return forward


def _sd14() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    return StableDiffusionPipeline(
        vae=_vae(4, scaling_factor=0.18215),
        text_encoder=None,
        tokenizer=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        unet=_unfilled(
            UNet2DConditionModel,
            sample_size=64,
            block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2,
            attention_head_dim=8,
            cross_attention_dim=768,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
    )


def _sdxl() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    return StableDiffusionXLPipeline(
        vae=_vae(4, scaling_factor=0.13025),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        add_watermarker=False,
        unet=_unfilled(
            UNet2DConditionModel,
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
    )


def _sd3() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    return StableDiffusion3Pipeline(
        vae=_vae(
            16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=None,
        text_encoder_2=None,
        text_encoder_3=None,
        tokenizer=None,
        tokenizer_2=None,
        tokenizer_3=None,
        transformer=_unfilled(
            SD3Transformer2DModel,
            sample_size=128,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=24,
            attention_head_dim=64,
            num_attention_heads=24,
            joint_attention_dim=4096,
            caption_projection_dim=1536,
            pooled_projection_dim=2048,
            pos_embed_max_size=192,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def _flux() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    return FluxPipeline(
        vae=_vae(
            16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        transformer=_unfilled(FluxTransformer2DModel, guidance_embeds=True),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )


def _clip_l() -> dict[str, Any]:
    """The smaller CLIP, which all these architectures have."""
    return {"text_encoder": parts.clip_text(768), "tokenizer": parts.clip_tokenizer()}


def _clip_l_and_g() -> dict[str, Any]:
    """Both CLIPs, for SDXL."""
    second = {"text_encoder_2": parts.clip_text(1280, projection=True), "tokenizer_2": parts.clip_tokenizer()}
    return {**_clip_l(), **second}


def _t5(number: int) -> dict[str, Any]:
    """A T5 as the second or third text encoder."""
    return {f"text_encoder_{number}": parts.t5_text(4096), f"tokenizer_{number}": parts.byte_tokenizer(512)}


def _sd3_text() -> dict[str, Any]:
    """Both CLIPs with their projections, and a T5."""
    first = {"text_encoder": parts.clip_text(768, projection=True), "tokenizer": parts.clip_tokenizer()}
    return {**_clip_l_and_g(), **first, **_t5(3)}


def _unfilled(cls: Any, **config: Any) -> Any:
    """A module without memory for its weights; filling it in the wanted dtype keeps the peak low."""
    with torch.device("meta"):
        return cls(**config)


def _vae(channels: int, **config: Any) -> Any:
    from diffusers import AutoencoderKL

    return _unfilled(
        AutoencoderKL,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=channels,
        sample_size=512,
        **config,
    )


EMBEDS, POOLED = "prompt_embeds", "pooled_prompt_embeds"
ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            name="sd14",
            published="CompVis/stable-diffusion-v1-4",
            pipe=_sd14,
            embeddings={EMBEDS: (1, 77, 768)},
            text=_clip_l,
        ),
        Architecture(
            name="sdxl",
            published="stabilityai/stable-diffusion-xl-base-1.0",
            pipe=_sdxl,
            embeddings={EMBEDS: (1, 77, 2048), POOLED: (1, 1280)},
            text=_clip_l_and_g,
        ),
        Architecture(
            name="sd3",
            published="stabilityai/stable-diffusion-3-medium",
            pipe=_sd3,
            embeddings={EMBEDS: (1, 333, 4096), POOLED: (1, 2048)},
            text=_sd3_text,
        ),
        Architecture(
            name="flux",
            published="black-forest-labs/FLUX.1-dev",
            pipe=_flux,
            embeddings={EMBEDS: (1, 512, 4096), POOLED: (1, 768)},
            text=lambda: {**_clip_l(), **_t5(2)},
        ),
    )
}
