"""Tiny randomly initialised pipelines, built in code: the real classes, thousandths of the size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..errors import InputError
from .parts import clip_text, clip_tokenizer, kl_vae, sd1_scheduler_config


def tiny_pipeline(family: str = "sd1", scheduler: Any = None, seed: int = 0) -> Any:
    """A diffusers pipeline of a family, without downloads: float32, CPU, eval mode, no progress bar.

    family: one of `FAMILIES`; scheduler: the name of a diffusers scheduler class, made from the config of the
    family's own, or a scheduler object; None for the family's own. seed: equal seeds give equal weights.
    Images are small (64×64 for "sd1") and mean nothing. Raises InputError for an unknown family or scheduler.
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
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _scheduler(name: str, config: Any) -> Any:
    import diffusers

    cls = getattr(diffusers, name, None)
    if cls is None or not name.endswith("Scheduler"):
        raise InputError(f"diffusers {diffusers.__version__} has no scheduler {name!r}")
    return cls.from_config(config)


def _sd1() -> Any:
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


FAMILIES: dict[str, Callable[[], Any]] = {"sd1": _sd1}
