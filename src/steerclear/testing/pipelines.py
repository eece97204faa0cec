"""Tiny randomly initialised pipelines, built in code: the real classes, a thousandth of the size."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from steerclear.errors import InputError
from steerclear.testing import flow_families as flow
from steerclear.testing import flux_families as flux
from steerclear.testing import image_families as image
from steerclear.testing import noise_families as noise
from steerclear.testing import prior_families as prior


def tiny_pipeline(family: str = "sd1", scheduler: Any = None, seed: int = 0) -> Any:
    """A diffusers pipeline of a family, without downloads: float32, CPU, eval mode, no progress bar.

    Its images are small (64×64 for "sd1") and show nothing.

    Args:
        family: one of `FAMILIES`.
        scheduler: a scheduler object, or the name of a diffusers scheduler class, which gets the config of
            the family's own; None for the family's own.
        seed: of the weights.

    Raises:
        InputError: for an unknown family or scheduler.
    """
    if family not in FAMILIES:
        raise InputError(f"no tiny pipeline of family {family!r}; families: {', '.join(FAMILIES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipe = FAMILIES[family]()
    if isinstance(scheduler, str):
        scheduler = _scheduler(scheduler, pipe.scheduler.config)
    if scheduler is not None:
        pipe.scheduler = scheduler
        if hasattr(pipe, "decoder_pipe"):  # it holds the scheduler as well
            pipe.decoder_pipe.scheduler = scheduler
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _scheduler(name: str, config: Any) -> Any:
    """A scheduler by the name of its class, with another scheduler's config."""
    import diffusers

    cls = getattr(diffusers, name, None)
    if cls is None or not name.endswith("Scheduler"):
        raise InputError(f"diffusers {diffusers.__version__} has no scheduler {name!r}")
    parameters = inspect.signature(cls.__init__).parameters
    # Kandinsky passes a learned variance on to any scheduler whose config holds a variance_type
    return cls.from_config({k: v for k, v in config.items() if k != "variance_type" or k in parameters})


FAMILIES: dict[str, Callable[[], Any]] = {
    "sd1": noise.sd1,
    "sdxl": noise.sdxl,
    "sd3": flow.sd3,
    "flux": flux.flux,
    "pixart": noise.pixart,
    "sana": flow.sana,
    "dit": noise.dit,
    "zimage": flow.zimage,
    "lumina2": flow.lumina2,
    "flux2": flux.flux2,
    "qwen": flow.qwen,
    "lcm": noise.lcm,
    "pixart-alpha": noise.pixart_alpha,
    "auraflow": flow.auraflow,
    "cogview4": flow.cogview4,
    "chroma": flux.chroma,
    "flux2-dev": flux.flux2_dev,
    "hunyuandit": noise.hunyuandit,
    "kandinsky22": prior.kandinsky22,
    "kandinsky3": prior.kandinsky3,
    "wuerstchen": prior.wuerstchen,
    "cascade": prior.cascade,
    "sd1-image": image.sd1_image,
    "sd1-inpaint": image.sd1_inpaint,
    "sdxl-image": image.sdxl_image,
    "sdxl-inpaint": image.sdxl_inpaint,
}

_CALLS: dict[str, dict[str, Any]] = {
    "auraflow": {"height": 64, "width": 64, "max_sequence_length": 16},
    "chroma": {"max_sequence_length": 16},
    "cogview4": {"max_sequence_length": 32},
    "dit": {"class_labels": [1]},
    "flux": {"max_sequence_length": 16},
    "flux2": {"height": 64, "width": 64, "max_sequence_length": 16, "text_encoder_out_layers": (0, 1)},
    "flux2-dev": {
        "height": 64,
        "width": 64,
        "max_sequence_length": 16,
        "text_encoder_out_layers": (0, 1),
    },
    "hunyuandit": {"use_resolution_binning": False},
    "kandinsky22": {"height": 64, "width": 64, "prior_num_inference_steps": 2},
    "kandinsky3": {"height": 64, "width": 64},
    "cascade": {"height": 128, "width": 128, "prior_num_inference_steps": 2},
    "wuerstchen": {"height": 128, "width": 128, "prior_timesteps": [1.0, 0.5, 0.0]},
    "lumina2": {"max_sequence_length": 32, "system_prompt": "-"},
    "pixart": {"max_sequence_length": 16, "use_resolution_binning": False, "clean_caption": False},
    "pixart-alpha": {"max_sequence_length": 16, "use_resolution_binning": False, "clean_caption": False},
    "qwen": {"height": 64, "width": 64, "negative_prompt": " "},
    "sana": {
        "height": 64,
        "width": 64,
        "max_sequence_length": 16,
        "use_resolution_binning": False,
        "clean_caption": False,
        "complex_human_instruction": None,
    },
    "zimage": {"height": 64, "width": 64, "max_sequence_length": 16},
}


def tiny_call(family: str, prompt: str = "a fox", steps: int = 4) -> dict[str, Any]:
    """Keyword arguments for a quick call of `tiny_pipeline(family)`.

    Args:
        family: one of `FAMILIES`.
        prompt: unused where the family takes class labels.
        steps: number of inference steps.

    Returns:
        The arguments, with a picture and a mask where the family begins from them.
    """
    text = {} if family == "dit" else {"prompt": prompt}
    pictures: dict[str, Any] = {}
    if family.endswith(("-image", "-inpaint")):
        pictures.update(image=image.picture(), strength=0.8)
    if family.endswith("-inpaint"):
        pictures["mask_image"] = image.mask()
    return {**text, "num_inference_steps": steps, **pictures, **_CALLS.get(family, {})}
