"""Tiny pipelines of further diffusers classes: a family's parts, and what the class wants beside them."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from steerclear.errors import InputError
from steerclear.steering.call import parameters_of
from steerclear.testing import flux_families as flux
from steerclear.testing import noise_families as noise
from steerclear.testing.image_families import mask, picture
from steerclear.testing.pipelines import tiny_call, tiny_pipeline

# the family whose parts a class takes, by the beginning of its name; the longest that fits counts
_FAMILIES = {
    "AuraFlow": "auraflow",
    "Chroma": "chroma",
    "CogView4": "cogview4",
    "DiT": "dit",
    "Flux": "flux",
    "Flux2": "flux2-dev",
    "Flux2Klein": "flux2",
    "HunyuanDiT": "hunyuandit",
    "Kandinsky3": "kandinsky3",
    "KandinskyV22": "kandinsky22",
    "LatentConsistencyModel": "lcm",
    "Lumina2": "lumina2",
    "PixArtAlpha": "pixart-alpha",
    "PixArtSigma": "pixart",
    "QwenImage": "qwen",
    "Sana": "sana",
    "StableCascade": "cascade",
    "StableDiffusion": "sd1",
    "StableDiffusion3": "sd3",
    "StableDiffusionXL": "sdxl",
    "Wuerstchen": "wuerstchen",
    "ZImage": "zimage",
}
_FURTHER = {
    "CogView3Plus": noise.cogview3,
    "IF": noise.deepfloyd,
    "OvisImage": flux.ovis,
}
# more channels that a denoiser reads: a picture's latents, a picture, or a mask beside its noisy latents
_MORE_CHANNELS = {
    "CogView4ControlPipeline": 4,
    "FluxControlImg2ImgPipeline": 16,
    "FluxControlInpaintPipeline": 16,
    "FluxControlPipeline": 16,
    "FluxFillPipeline": 16 + 4 * 64,
    "KandinskyV22InpaintCombinedPipeline": 5,
    "StableDiffusionInstructPix2PixPipeline": 4,
    "StableDiffusionXLInstructPix2PixPipeline": 4,
    "StableDiffusionUpscalePipeline": 3,
}
# layers that perturbed attention guidance acts on
_PERTURBED = {
    "hunyuandit": "blocks.1",
    "pixart": "blocks.0",
    "sana": "transformer_blocks.0",
    "sd3": "blocks.0",
}


def tiny_variant(cls: type, seed: int = 0) -> Any:
    """A pipeline of a diffusers class that takes a known family's parts, without downloads.

    Args:
        cls: the pipeline class.
        seed: of the weights.

    Raises:
        InputError: for a class of no known family, and for one that wants a part that none has.
    """
    source = _source(cls, seed)
    if type(source) is cls:
        return source
    accepted = inspect.signature(cls).parameters
    parts = {name: part for name, part in source.components.items() if name in accepted}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if cls.__name__ == "StableDiffusion3InpaintPipeline":  # it takes no other number of channels
            parts["vae"] = type(parts["vae"]).from_config(parts["vae"].config, latent_channels=16)
            shape = {"in_channels": 16, "out_channels": 16}
            parts["transformer"] = type(parts["transformer"]).from_config(
                parts["transformer"].config, **shape
            )
        if more := _MORE_CHANNELS.get(cls.__name__):
            _widen(parts, more)
        if "controlnet" in accepted:
            parts["controlnet"] = _controlnet(cls, parts)
        if "low_res_scheduler" in accepted:
            from diffusers import DDPMScheduler, UNet2DConditionModel

            parts["low_res_scheduler"] = DDPMScheduler()
            parts["unet"] = UNet2DConditionModel.from_config(parts["unet"].config, num_class_embeds=1000)
        if "adapter" in accepted:
            parts.update(_adapted(parts["unet"]))
    options: dict[str, Any] = {"requires_safety_checker": False, "add_watermarker": False}
    if "pag_applied_layers" in accepted:
        options["pag_applied_layers"] = _PERTURBED.get(
            _family(cls) or "", accepted["pag_applied_layers"].default
        )
    missing = [
        name
        for name, parameter in accepted.items()
        if name not in parts and name not in options and parameter.default is inspect.Parameter.empty
    ]
    if missing:
        raise InputError(f"no tiny {cls.__name__}: no family has a {', '.join(missing)}")
    pipe = cls(**parts, **{name: value for name, value in options.items() if name in accepted})
    if hasattr(source, "default_sample_size"):
        pipe.default_sample_size = source.default_sample_size
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def variant_call(cls: type, prompt: str = "a fox", steps: int = 4) -> dict[str, Any]:
    """Keyword arguments for a quick call of `tiny_variant(cls)`, with the pictures that it takes."""
    parameters = parameters_of(cls)
    family = _family(cls)
    sizes = {"height": 64, "width": 64, "max_sequence_length": 128, "clean_caption": False}
    given = tiny_call(family, prompt, steps) if family else {**tiny_call("sd1", prompt, steps), **sizes}
    call = {k: v for k, v in given.items() if k in parameters}
    if cls.__name__.startswith("IF"):
        call.update(dict.fromkeys({"height", "width"} & set(call), 16))
    pictures = {
        "image": picture(),
        "mask_image": mask(),
        "control_image": picture(),
        "control_mask": mask(),
        "strength": 0.8,
        "control_mode": [0],
    }
    call.update({name: value for name, value in pictures.items() if name in parameters})
    if "Flux" in cls.__name__ and "ControlNet" in cls.__name__:
        call.pop("control_mode", None)
    if "Union" not in cls.__name__:
        call.pop("control_mode", None)
    if cls.__name__ == "StableDiffusionXLControlNetUnionPipeline":
        call["control_image"] = [picture()]
    if cls.__name__ == "StableDiffusionUpscalePipeline":
        call["image"] = picture().resize((8, 8))
    if cls.__name__ == "FluxKontextPipeline":
        call.update(height=64, width=64, max_area=64 * 64, _auto_resize=False)
    return call


def _source(cls: type, seed: int) -> Any:
    """The pipeline whose parts a class takes."""
    if (family := _family(cls)) is not None:
        return tiny_pipeline(family, seed=seed)
    build = next((build for name, build in _FURTHER.items() if cls.__name__.startswith(name)), None)
    if build is None:
        raise InputError(f"no tiny {cls.__name__}: it is of no family that has tiny parts")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = build()
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _family(cls: type) -> str | None:
    """The family of `FAMILIES` whose parts a class takes, if there is one."""
    fitting = [name for name in _FAMILIES if cls.__name__.startswith(name)]
    return _FAMILIES[max(fitting, key=len)] if fitting else None


def _widen(parts: dict[str, Any], more: int) -> None:
    """Let the denoiser read more channels than it predicts."""
    name = "unet" if "unet" in parts else "transformer"
    config = parts[name].config
    channels = config.out_channels or config.in_channels
    parts[name] = type(parts[name]).from_config(
        config, in_channels=config.in_channels + more, out_channels=channels
    )


def _controlnet(cls: type, parts: dict[str, Any]) -> Any:
    """A control network of the denoiser's shape."""
    import diffusers

    if "unet" in parts:
        if "Union" not in cls.__name__:
            return diffusers.ControlNetModel.from_unet(parts["unet"])
        union = diffusers.ControlNetUnionModel.from_unet(parts["unet"])
        width = parts["unet"].config.block_out_channels[0]
        shape = {"num_trans_channel": width, "num_trans_head": 2, "num_proj_channel": width}
        return diffusers.ControlNetUnionModel.from_config(union.config, **shape)
    kinds = {"StableDiffusion3": "SD3ControlNetModel", "Flux": "FluxControlNetModel"}
    kinds["QwenImage"] = "QwenImageControlNetModel"
    kind = next((kind for start, kind in kinds.items() if cls.__name__.startswith(start)), None)
    if kind is None:
        raise InputError(
            f"no tiny {cls.__name__}: its control network is none of {', '.join(kinds.values())}"
        )
    # inpainting gives the network a mask as well
    extra = {"extra_conditioning_channels": 1} if cls.__name__.endswith("InpaintingPipeline") else {}
    return getattr(diffusers, kind).from_config({**parts["transformer"].config, **extra})


def _adapted(unet: Any) -> dict[str, Any]:
    """A U-Net whose blocks a T2I-Adapter fits, and the adapter."""
    from diffusers import T2IAdapter, UNet2DConditionModel

    shape = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    channels = list(unet.config.block_out_channels)
    return {
        "unet": UNet2DConditionModel.from_config(unet.config, **shape),
        "adapter": T2IAdapter(in_channels=3, channels=channels, num_res_blocks=1, downscale_factor=8),
    }
