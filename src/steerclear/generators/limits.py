"""Before anything is denoised: what single pipelines cannot do, though their call takes the argument."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral
from typing import Any

from steerclear.errors import InputError


def takes_several(pipe: Any) -> bool:
    """Whether one call may hold several prompts: Würstchen's decoder repeats each as often as there are images."""
    return not _is(pipe, "WuerstchenDecoderPipeline", "WuerstchenCombinedPipeline")


def check_limits(pipe: Any, steps: int, prompts: int, generator: Any, kwargs: Mapping[str, Any]) -> None:
    """Raise InputError for a request that this pipeline would break off in the middle, or not understand as it was meant.

    steps, prompts: how many of each; generator: as the pipeline is given it.
    """
    name = type(pipe).__name__
    if prompts > 1 and not takes_several(pipe):
        raise InputError(f"{name} takes one prompt at a time; ask for {prompts} pictures in {prompts} calls")
    if (
        _is(pipe, "KandinskyV22CombinedPipeline")
        and isinstance(generator, list)
        and kwargs.get("negative_prompt")
    ):
        raise InputError(f"{name} takes one generator, not a list of them, where there is a negative prompt")
    _check_one_step(pipe, steps)
    height, width = kwargs.get("height"), kwargs.get("width")
    if (height is None) != (width is None):
        raise InputError(
            f"height is {height} and width {width}; pass both, since some pipelines ignore one alone"
        )
    for side, length in (("height", height), ("width", width)):
        if length is not None:
            _check_side(pipe, side, length)


def _check_one_step(pipe: Any, steps: int) -> None:
    """PixArt-α looks for the clean latent of its only step in what the scheduler returns, and not all return it."""
    scheduler = type(pipe.scheduler)
    if steps != 1 or not _is(pipe, "PixArtAlphaPipeline"):
        return
    outputs = [v for k, v in vars(sys.modules[scheduler.__module__]).items() if k.endswith("Output")]
    if not any(is_dataclass(output) and len(fields(output)) > 1 for output in outputs):
        raise InputError(
            f"{type(pipe).__name__} with a {scheduler.__name__} cannot make a picture in one step; ask for two, or give it a "
            "DDPMScheduler or LCMScheduler"
        )


def _check_side(pipe: Any, side: str, length: Any) -> None:
    """A side shorter than one patch of the denoiser is nothing to it; Würstchen's must fit all of its levels."""
    name = type(pipe).__name__
    least = _patch(pipe)
    if not isinstance(length, Integral) or length < least:
        raise InputError(f"{side} is {length!r}; the shortest side that {name} can make is {least} pixels")
    if not _is(pipe, "WuerstchenCombinedPipeline"):
        return
    shape = pipe.decoder.config
    grid = shape.patch_size * 2 ** (len(shape.c_hidden) - 1)
    multiple, scale = pipe.prior_pipe.config.resolution_multiple, pipe.decoder_pipe.config.latent_dim_scale
    embeddings = math.ceil(length / multiple)
    if int(embeddings * scale) % grid:
        fits = next(n for n in range(embeddings, embeddings + 10_000) if int(n * scale) % grid == 0)
        raise InputError(
            f"{name} cannot make a {side} of {length} pixels; the next that it can is {int(fits * multiple)}"
        )


def _patch(pipe: Any) -> int:
    """Pixels per side of what the denoiser sees as one piece."""
    processor = getattr(getattr(pipe, "image_processor", None), "config", None)
    factor = int(getattr(pipe, "vae_scale_factor", None) or 1)
    patch = getattr(getattr(getattr(pipe, "transformer", None), "config", None), "patch_size", None)
    return max(
        int(getattr(processor, "vae_scale_factor", 1)), factor * (patch if isinstance(patch, int) else 1)
    )


def _is(pipe: Any, *names: str) -> bool:
    return any(cls.__name__ in names for cls in type(pipe).__mro__)
