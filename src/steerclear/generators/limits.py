"""Before anything is denoised: refuse arguments that a pipeline's call takes but cannot serve."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral
from typing import Any

from steerclear.errors import InputError


def takes_several(pipe: Any) -> bool:
    """Whether one call may hold several prompts.

    Würstchen's may not: its decoder repeats each prompt once per image of the whole call.
    """
    return not _is_any(pipe, "WuerstchenDecoderPipeline", "WuerstchenCombinedPipeline")


def takes_generators(pipe: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call may hold a generator for each image.

    Kandinsky 2.2's may not, if there is a negative prompt.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the arguments of the call.
    """
    return not (_is_any(pipe, "KandinskyV22CombinedPipeline") and kwargs.get("negative_prompt"))


def check_limits(pipe: Any, kwargs: Mapping[str, Any], *, steps: int, prompts: int, generator: Any) -> None:
    """Check a request against what this pipeline can serve.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the other arguments of the call.
        steps: number of inference steps.
        prompts: number of prompts.
        generator: a torch generator, or a list of them.

    Raises:
        InputError: for a request at which the pipeline would fail in the middle, or which it would misread.
    """
    name = type(pipe).__name__
    if prompts > 1 and not takes_several(pipe):
        raise InputError(f"{name} takes one prompt at a time; ask for {prompts} pictures in {prompts} calls")
    if isinstance(generator, list) and not takes_generators(pipe, kwargs):
        raise InputError(f"{name} takes one generator, not a list of them, where there is a negative prompt")
    _check_one_step(pipe, steps)
    for side in ("height", "width"):
        if (length := kwargs.get(side)) is not None:
            _check_side(pipe, side, length)


def check_latent_output(pipe: Any, kwargs: Mapping[str, Any]) -> None:
    """Check that the latent to hand out is the one that was decoded and checked.

    `output_type="latent"` hands out the scheduler's last latent. A callback, or a pipeline's own call, may
    change the latent after the last step.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the arguments of the call.

    Raises:
        InputError: where they may differ.
    """
    if any(kwargs.get(name) is not None for name in ("callback", "callback_on_step_end")):
        raise InputError(
            "a callback may change the latent after it was checked, so none can be handed out; "
            "ask for another output_type, or leave the callback out"
        )
    if not str(type(pipe).__call__.__module__).startswith("diffusers."):
        raise InputError(
            f"{type(pipe).__name__} has a call of its own, which may change the latent after it was checked; "
            "ask for another output_type"
        )
    if _is_any(pipe, "DiTPipeline", "Flux2KleinPipeline"):
        raise InputError(
            f"{type(pipe).__name__} gives no latents that a guard could hand out; ask for another output_type"
        )


def _check_one_step(pipe: Any, steps: int) -> None:
    """PixArt-α reads its only step's clean latent from the scheduler's output; not all schedulers give it."""
    scheduler = type(pipe.scheduler)
    if steps != 1 or not _is_any(pipe, "PixArtAlphaPipeline"):
        return
    outputs = [v for k, v in vars(sys.modules[scheduler.__module__]).items() if k.endswith("Output")]
    if not any(is_dataclass(output) and len(fields(output)) > 1 for output in outputs):
        raise InputError(
            f"{type(pipe).__name__} with a {scheduler.__name__} cannot make a picture in one step; ask for "
            "two, or give it a DDPMScheduler or LCMScheduler"
        )


def _check_side(pipe: Any, side: str, length: Any) -> None:
    """A side must hold one patch of the denoiser; Würstchen's must also divide at all of its levels."""
    name = type(pipe).__name__
    shortest = _patch_pixels(pipe)
    if not isinstance(length, Integral) or length < shortest:
        raise InputError(f"{side} is {length!r}; the shortest side that {name} can make is {shortest} pixels")
    if not _is_any(pipe, "WuerstchenCombinedPipeline"):
        return
    config = pipe.decoder.config
    grid = config.patch_size * 2 ** (len(config.c_hidden) - 1)
    multiple, scale = pipe.prior_pipe.config.resolution_multiple, pipe.decoder_pipe.config.latent_dim_scale
    embeddings = math.ceil(length / multiple)
    if int(embeddings * scale) % grid:
        fits = next(n for n in range(embeddings, embeddings + 10_000) if int(n * scale) % grid == 0)
        raise InputError(
            f"{name} cannot make a {side} of {length} pixels; the next that it can is {int(fits * multiple)}"
        )


def _patch_pixels(pipe: Any) -> int:
    """Pixels per side of one patch of the denoiser."""
    processor = getattr(getattr(pipe, "image_processor", None), "config", None)
    factor = int(getattr(pipe, "vae_scale_factor", None) or 1)
    patch = getattr(getattr(getattr(pipe, "transformer", None), "config", None), "patch_size", None)
    return max(
        int(getattr(processor, "vae_scale_factor", 1)), factor * (patch if isinstance(patch, int) else 1)
    )


def _is_any(pipe: Any, *names: str) -> bool:
    """Whether the pipeline is of one of these classes, or extends one."""
    return any(cls.__name__ in names for cls in type(pipe).__mro__)
