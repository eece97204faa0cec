"""Loading a diffusers pipeline, and the shape of its latents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import ModelError
from steerclear.generators.accepted import denoiser_of

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/name


def load_pipeline(
    model: str | Path,
    device: str | torch.device | None = None,
    *,
    torch_dtype: torch.dtype | None = None,
    variant: str | None = None,
    **loader_keywords: Any,
) -> Any:
    """A diffusers pipeline, without its safety checker.

    Args:
        model: a folder that diffusers saved, or a hub id.
        device: where it runs; by default the CPU.
        torch_dtype: of the weights; by default float32 on the CPU, and elsewhere as they are stored.
        variant: which files of the folder, such as "fp16".
        **loader_keywords: whatever else `DiffusionPipeline.from_pretrained` takes.

    Raises:
        ModelError: if the folder or id is no pipeline, or its loader refuses the arguments.
    """
    from diffusers import DiffusionPipeline

    if torch_dtype is not None:
        loader_keywords[_dtype_keyword()] = torch_dtype
    if variant is not None:
        loader_keywords["variant"] = variant
    folder = Path(model)
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise ModelError(
            f"{model} is no diffusers pipeline: it has no model_index.json; give the folder that has one"
        )
    if not folder.exists() and not HUB_ID.fullmatch(str(model)):
        raise ModelError(f"there is no model folder {model}; give a folder or a hub id such as 'owner/name'")
    try:
        pipe = DiffusionPipeline.from_pretrained(model, **{**_absent(folder), **loader_keywords})
    except Exception as error:  # the loaders of three libraries raise errors of any kind on a damaged folder
        raise ModelError(f"{model} cannot be loaded as a diffusers pipeline: {_first_line(error)}") from error
    if getattr(pipe, "safety_checker", None) is not None:
        pipe.safety_checker = None
    pipe.set_progress_bar_config(disable=True)
    on_cpu = not device or torch.device(device).type == "cpu"
    if on_cpu and torch_dtype in (None, torch.float32):
        # pipe.to would warn
        for component in pipe.components.values():
            if isinstance(component, torch.nn.Module):
                component.float()
        return pipe
    denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    # of what is stored in half precision the loaders may convert some parts; the denoiser's type decides
    return pipe.to(device or "cpu", torch_dtype or getattr(denoiser, "dtype", torch.float32))


def _dtype_keyword() -> str:
    """What the installed diffusers calls the type of the weights: `dtype` since the middle of 2026,
    `torch_dtype` before.
    """
    import diffusers
    from diffusers.pipelines import pipeline_utils

    renamed = hasattr(pipeline_utils, "_resolve_dtype") or not diffusers.__version__.startswith("0.")
    return "dtype" if renamed else "torch_dtype"


def latent_like(pipe: Any) -> Tensor:
    """An empty batch (0, C, H, W) of latents, of the size that the pipeline makes by default."""
    denoiser = denoiser_of(pipe)
    assert denoiser is not None
    config = denoiser.config
    # a U-Net's input may hold more than the latent (inpainting), a DiT's output as well (learned variance)
    channels = config.out_channels if hasattr(pipe, "unet") else config.in_channels
    return torch.empty(0, channels, config.sample_size, config.sample_size, device=pipe._execution_device)


def native_size(pipe: Any, side: str = "width") -> int | None:
    """Height or width in pixels of the pictures that the pipeline makes by default, where it says so.

    Args:
        pipe: a diffusers pipeline.
        side: "height" or "width".
    """
    config = getattr(denoiser_of(pipe), "config", None)
    size = getattr(pipe, "default_sample_size", None) or getattr(config, "sample_size", None)
    if isinstance(size, list | tuple) and len(size) == 2:
        size = size[side == "width"]
    factor = getattr(pipe, "vae_scale_factor", None)
    return size * factor if isinstance(size, int) and isinstance(factor, int) else None


def _absent(folder: Path) -> dict[str, None]:
    """Components that the folder lacks, as arguments of its loader, which asks for them by name."""
    import diffusers

    path = folder / "model_index.json"
    index = json.loads(path.read_text()) if path.is_file() else {}
    family = getattr(diffusers, str(index.get("_class_name")), None)
    optional = getattr(family, "_optional_components", ())
    return {name: None for name, part in index.items() if part == [None, None] and name not in optional}


def _first_line(error: Exception) -> str:
    """The first line of an error's message, at most 300 characters; its type where there is no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
